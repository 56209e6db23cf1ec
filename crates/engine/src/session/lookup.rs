//! Prompt lookup: what followed the last time the text ended like this is likely to follow again.
//!
//! Source: Saxena 2023, "Prompt Lookup Decoding"; that checking guesses leaves the answer as it was: Leviathan et al. 2023,
//! arXiv:2211.17192.

use std::collections::HashMap;

use crate::gpu::Tier;

/// Ids at the end of the text that have to be alike.
const ALIKE: usize = 3;
/// Guesses at a time at first; each time all are right it is twice that and one.
const FIRST_LENGTH: u32 = 3;
/// The longest pause after wrong guesses, in tokens.
const LONGEST_PAUSE: u32 = 32;

/// Guesses at a time where nobody says otherwise: none. A CPU adapter computes eight tokens in the time of four to six, so that
/// only text that repeats itself gains; a GPU sends 2 to 16 tokens through the tile of 64, modelled at 74 ms on an RX 7900 XTX
/// where one token takes 9.
pub(super) const DEFAULT_GUESSED: u32 = 0;

/// Guesses for one answer.
#[derive(Debug)]
pub(super) struct Lookup {
    max: u32,
    /// Share of guesses that has to be right for a check to pay, in quarters.
    break_even: u32,
    length: u32,
    /// Tokens before the next guess.
    pause: u32,
    next_pause: u32,
    /// The place after each run of [`ALIKE`] ids, the last one for each.
    places: HashMap<[u32; ALIKE], usize>,
    n_indexed: usize,
    guessed: u32,
    right: u32,
}

impl Lookup {
    pub(super) fn new(max: u32, tier: Tier) -> Self {
        Self {
            max,
            break_even: if tier.cpu { 3 } else { 1 },
            length: FIRST_LENGTH.min(max),
            pause: 0,
            next_pause: 1,
            places: HashMap::new(),
            n_indexed: 0,
            guessed: 0,
            right: 0,
        }
    }

    /// The next `under_way` ids and at least one, at most `room` after them; `None` where nothing like it was said before, or
    /// guesses have been wrong.
    pub(super) fn guess(&mut self, ids: &[u32], under_way: usize, room: u32) -> Option<Vec<u32>> {
        while let Some([alike @ .., _]) = ids.get(self.n_indexed..=self.n_indexed + ALIKE) {
            if let Ok(alike) = <[u32; ALIKE]>::try_from(alike) {
                self.places.insert(alike, self.n_indexed + ALIKE);
            }
            self.n_indexed += 1;
        }
        if self.pause > 0 {
            self.pause -= 1;
            return None;
        }
        let length = self.length.min(room) as usize;
        let last: &[u32; ALIKE] = ids.last_chunk()?;
        let place = *self.places.get(last)?;
        if length == 0 {
            return None;
        }
        let mut text = ids.get(place..)?.to_vec();
        // What repeats itself goes on doing so.
        while text.len() < under_way + length {
            let period = ids.len() - place;
            text.push(text[text.len() - period]);
        }
        text.truncate(under_way + length);
        Some(text)
    }

    /// How many of the guesses were right.
    pub(super) fn checked(&mut self, right: u32, guessed: u32) {
        self.guessed += guessed;
        self.right += right;
        if right >= guessed {
            self.length = (self.length * 2 + 1).min(self.max);
        } else if right * 2 < guessed {
            self.length = (self.length / 2).max(FIRST_LENGTH.min(self.max));
        }
        if right * 4 >= guessed * self.break_even {
            self.next_pause = 1;
        } else {
            self.pause = self.next_pause;
            self.next_pause = (self.next_pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Guessed and right so far.
    pub(super) fn totals(&self) -> (u32, u32) {
        (self.guessed, self.right)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup() -> Lookup {
        Lookup::new(15, Tier::default())
    }

    #[test]
    fn what_followed_before_is_guessed() {
        let mut lookup = lookup();
        assert_eq!(lookup.guess(&[1, 2, 3, 4, 5, 6, 7, 8], 0, 99), None);
        assert_eq!(lookup.guess(&[1, 2, 3, 4, 5, 6, 7, 8, 2, 3, 4], 0, 99), Some(vec![5, 6, 7]));
        assert_eq!(lookup.guess(&[1, 2, 3, 4, 5, 6, 7, 8, 2, 3, 4], 1, 99), Some(vec![5, 6, 7, 8]));
        assert_eq!(lookup.guess(&[1, 2, 3, 4, 5, 6, 7, 8, 2, 3, 4], 1, 1), Some(vec![5, 6]));
        assert_eq!(lookup.guess(&[1, 2, 3, 4, 5, 6, 7, 8, 2, 3, 4], 0, 0), None);
    }

    #[test]
    fn a_loop_goes_on() {
        assert_eq!(lookup().guess(&[9, 1, 2, 1, 2, 1], 2, 99), Some(vec![2, 1, 2, 1, 2]));
        assert_eq!(lookup().guess(&[7, 7, 7, 7], 0, 99), Some(vec![7, 7, 7]));
        assert_eq!(lookup().guess(&[7, 7], 0, 99), None);
    }

    #[test]
    fn right_guesses_grow_and_wrong_ones_pause() {
        let text = [1, 2, 3, 4, 1, 2, 3];
        let mut lookup = lookup();
        lookup.checked(3, 3);
        assert_eq!(lookup.guess(&text, 0, 99).map(|ids| ids.len()), Some(7));
        lookup.checked(7, 7);
        lookup.checked(15, 15);
        assert_eq!(lookup.guess(&text, 0, 99).map(|ids| ids.len()), Some(15));
        lookup.checked(0, 15);
        assert_eq!(lookup.guess(&text, 0, 99), None);
        assert_eq!(lookup.guess(&text, 0, 99).map(|ids| ids.len()), Some(7));
        lookup.checked(0, 7);
        let pauses = (0..9).take_while(|_| lookup.guess(&text, 0, 99).is_none()).count();
        assert_eq!(pauses, 2);
        assert_eq!(lookup.totals(), (47, 25));
    }
}

//! The metadata of a GGUF file: ordered keys with typed values, and getters that say what is wrong.

use std::borrow::Cow;

use super::gguf_error::{GgufError, shown};

macro_rules! value_types {
    ($($variant:ident $id:literal $name:literal $bytes:literal;)*) => {
        /// The types a metadata value can have.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum ValueType {
            $(#[doc = concat!("`", $name, "` in messages, ", $id, " in a file.")] $variant = $id,)*
        }

        impl ValueType {
            /// The type with this number in GGUF.
            #[must_use]
            pub fn from_gguf(id: u32) -> Option<Self> {
                match id { $($id => Some(Self::$variant),)* _ => None }
            }

            /// Its number in GGUF.
            #[must_use]
            pub fn gguf_id(self) -> u32 {
                self as u32
            }

            /// Its name in messages.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The fewest bytes a value of this type has in a file: a string and an array begin with their length.
            #[must_use]
            pub fn min_bytes(self) -> u64 {
                match self { $(Self::$variant => $bytes,)* }
            }
        }
    };
}

value_types! {
    U8 0 "u8" 1;
    I8 1 "i8" 1;
    U16 2 "u16" 2;
    I16 3 "i16" 2;
    U32 4 "u32" 4;
    I32 5 "i32" 4;
    F32 6 "f32" 4;
    Bool 7 "bool" 1;
    String 8 "string" 8;
    Array 9 "array" 12;
    U64 10 "u64" 8;
    I64 11 "i64" 8;
    F64 12 "f64" 8;
}

/// One metadata value.
#[expect(missing_docs, reason = "each variant is the type of its field")]
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    /// Text, as the bytes in the file: should be UTF-8, which is checked when it is asked for as text.
    String(Vec<u8>),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// An array of values of one type. GGUF would allow arrays of arrays; no model has them and they are refused.
#[expect(missing_docs, reason = "each variant is the type of its elements")]
#[derive(Debug, Clone, PartialEq)]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    String(StringArray),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

macro_rules! for_each_array {
    ($array:expr, $items:ident => $body:expr) => {
        match $array {
            Array::U8($items) => $body,
            Array::I8($items) => $body,
            Array::U16($items) => $body,
            Array::I16($items) => $body,
            Array::U32($items) => $body,
            Array::I32($items) => $body,
            Array::F32($items) => $body,
            Array::Bool($items) => $body,
            Array::String($items) => $body,
            Array::U64($items) => $body,
            Array::I64($items) => $body,
            Array::F64($items) => $body,
        }
    };
}

macro_rules! type_of {
    ($enum:ident, $value:expr, $($variant:ident)*) => {
        match $value { $($enum::$variant(_) => ValueType::$variant,)* }
    };
}

impl Array {
    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        for_each_array!(self, items => items.len())
    }

    /// Whether it has no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The type of the elements.
    #[must_use]
    pub fn element_type(&self) -> ValueType {
        type_of!(Array, self, U8 I8 U16 I16 U32 I32 F32 Bool String U64 I64 F64)
    }

    /// Element `index` as a value of its own.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Value> {
        Some(match self {
            Self::U8(items) => Value::U8(*items.get(index)?),
            Self::I8(items) => Value::I8(*items.get(index)?),
            Self::U16(items) => Value::U16(*items.get(index)?),
            Self::I16(items) => Value::I16(*items.get(index)?),
            Self::U32(items) => Value::U32(*items.get(index)?),
            Self::I32(items) => Value::I32(*items.get(index)?),
            Self::F32(items) => Value::F32(*items.get(index)?),
            Self::Bool(items) => Value::Bool(*items.get(index)?),
            Self::String(items) => Value::String(items.get(index)?.to_vec()),
            Self::U64(items) => Value::U64(*items.get(index)?),
            Self::I64(items) => Value::I64(*items.get(index)?),
            Self::F64(items) => Value::F64(*items.get(index)?),
        })
    }
}

impl Value {
    /// The type of the value.
    #[must_use]
    pub fn value_type(&self) -> ValueType {
        type_of!(Value, self, U8 I8 U16 I16 U32 I32 F32 Bool String Array U64 I64 F64)
    }

    /// The type in words: `u32`, `array of string`.
    #[must_use]
    pub fn type_name(&self) -> String {
        match self {
            Self::Array(array) => format!("array of {}", array.element_type().name()),
            single => single.value_type().name().to_owned(),
        }
    }

    /// The value of any integer type; a bool is none.
    #[must_use]
    pub fn as_integer(&self) -> Option<i128> {
        Some(match *self {
            Self::U8(x) => x.into(),
            Self::I8(x) => x.into(),
            Self::U16(x) => x.into(),
            Self::I16(x) => x.into(),
            Self::U32(x) => x.into(),
            Self::I32(x) => x.into(),
            Self::U64(x) => x.into(),
            Self::I64(x) => x.into(),
            _ => return None,
        })
    }
}

/// Many strings in one block of memory. A vocabulary of 128,000 short tokens as `Vec<String>` would take three times
/// the bytes it has in the file, and an empty string, 8 bytes in a file, takes 24.
///
/// Tokens are bytes: vocabularies hold pieces of characters that are not UTF-8 on their own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StringArray {
    bytes: Vec<u8>,
    /// End of each string in `bytes`. The limit on a header, far below 4 GiB, keeps these in 32 bits.
    ends: Vec<u32>,
}

impl StringArray {
    /// Number of strings.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The bytes of string `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)? as usize;
        let start = match index.checked_sub(1) {
            Some(before) => *self.ends.get(before)? as usize,
            None => 0,
        };
        self.bytes.get(start..end)
    }

    /// String `index` as text; bytes that are not UTF-8 become U+FFFD.
    #[must_use]
    pub fn get_lossy(&self, index: usize) -> Option<Cow<'_, str>> {
        self.get(index).map(String::from_utf8_lossy)
    }

    /// All strings, as bytes.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.len()).map(|index| self.get(index).unwrap_or_default())
    }

    pub(super) fn with_capacity(strings: usize) -> Self {
        Self { bytes: Vec::new(), ends: Vec::with_capacity(strings) }
    }

    /// Adds a string that `fill` appends to the bytes it is given.
    pub(super) fn push_with(
        &mut self,
        fill: impl FnOnce(&mut Vec<u8>) -> Result<(), GgufError>,
    ) -> Result<(), GgufError> {
        let needed_bytes = (self.ends.len() as u64).saturating_mul(4);
        let no_memory = |_| GgufError::OutOfMemory { field: "string array".to_owned(), needed_bytes };
        self.ends.try_reserve(1).map_err(no_memory)?;
        fill(&mut self.bytes)?;
        let end = u32::try_from(self.bytes.len()).map_err(|_| GgufError::Limit {
            field: "bytes of a string array".to_owned(),
            found: self.bytes.len() as u64,
            limit: u32::MAX.into(),
            position: 0,
        })?;
        self.ends.push(end);
        Ok(())
    }

    /// Gives back memory kept for strings that did not come.
    pub(super) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        self.ends.shrink_to_fit();
    }

    /// Collects strings.
    ///
    /// # Errors
    /// [`GgufError::Limit`] when they have more than 4 GiB together.
    pub fn from_strings<S: AsRef<[u8]>>(strings: impl IntoIterator<Item = S>) -> Result<Self, GgufError> {
        let mut array = Self::default();
        for string in strings {
            array.push_with(|bytes| {
                bytes.extend_from_slice(string.as_ref());
                Ok(())
            })?;
        }
        Ok(array)
    }
}

/// The keys and values of a file, in the file's order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata {
    entries: Vec<(String, Value)>,
    /// Places in `entries`, sorted by key.
    by_key: Vec<u32>,
}

impl Metadata {
    /// Number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no keys.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All keys and values in the file's order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The value of `key`, of whatever type.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        let slot = self.slot(key).ok()?;
        let index = *self.by_key.get(slot)?;
        self.entries.get(index as usize).map(|(_, value)| value)
    }

    /// The value of `key` as a `T`, `None` where the file does not have the key.
    ///
    /// # Errors
    /// [`GgufError::WrongType`], [`GgufError::OutOfRange`] or [`GgufError::InvalidUtf8`] when it is something else.
    pub fn optional<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<Option<T>, GgufError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        T::from_value(value).map(Some).map_err(|mismatch| match mismatch {
            Mismatch::Type => GgufError::WrongType { key: shown(key), found: value.type_name(), wanted: T::WANTED },
            Mismatch::Range(found) => GgufError::OutOfRange { key: shown(key), found, wanted: T::WANTED },
        })
    }

    /// The value of `key` as a `T`.
    ///
    /// # Errors
    /// [`GgufError::MissingKey`], and those of [`Metadata::optional`].
    pub fn required<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<T, GgufError> {
        self.optional(key)?.ok_or_else(|| GgufError::MissingKey { key: shown(key), wanted: T::WANTED })
    }

    /// The value of `key` as a `u32`, whatever its integer type.
    ///
    /// # Errors
    /// Those of [`Metadata::required`].
    pub fn u32(&self, key: &str) -> Result<u32, GgufError> {
        self.required(key)
    }

    /// The value of `key` as a `u64`, whatever its integer type.
    ///
    /// # Errors
    /// Those of [`Metadata::required`].
    pub fn u64(&self, key: &str) -> Result<u64, GgufError> {
        self.required(key)
    }

    /// The value of `key` as an `f32`, from `f32` or `f64`.
    ///
    /// # Errors
    /// Those of [`Metadata::required`].
    pub fn f32(&self, key: &str) -> Result<f32, GgufError> {
        self.required(key)
    }

    /// The value of `key` as a `bool`.
    ///
    /// # Errors
    /// Those of [`Metadata::required`].
    pub fn bool(&self, key: &str) -> Result<bool, GgufError> {
        self.required(key)
    }

    /// The value of `key` as text.
    ///
    /// # Errors
    /// Those of [`Metadata::required`].
    pub fn str(&self, key: &str) -> Result<&str, GgufError> {
        self.required(key)
    }

    /// The value of `key` as an array of strings.
    ///
    /// # Errors
    /// Those of [`Metadata::required`].
    pub fn strings(&self, key: &str) -> Result<&StringArray, GgufError> {
        self.required(key)
    }

    /// Where `key` stands in `by_key`, or where it would.
    pub(super) fn slot(&self, key: &str) -> Result<usize, usize> {
        self.by_key.binary_search_by(|&index| {
            let found = self.entries.get(index as usize).map_or("", |(key, _)| key.as_str());
            found.cmp(key)
        })
    }

    /// Adds an entry whose key is not there yet and belongs at `slot`.
    pub(super) fn insert(&mut self, slot: usize, key: String, value: Value) {
        self.by_key.insert(slot.min(self.by_key.len()), self.entries.len() as u32);
        self.entries.push((key, value));
    }
}

/// Why a value cannot be had as the type asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mismatch {
    /// It is of another type.
    Type,
    /// It is a number, text or array of the right kind whose content (given here) does not fit.
    Range(String),
}

/// Types that metadata values can be asked for.
pub trait FromValue<'a>: Sized {
    /// The type's name in messages.
    const WANTED: &'static str;

    /// Takes the value as this type.
    ///
    /// # Errors
    /// [`Mismatch`] says whether the type or the content is wrong.
    fn from_value(value: &'a Value) -> Result<Self, Mismatch>;
}

macro_rules! integers_from_value {
    ($($ty:ty)*) => {$(
        impl FromValue<'_> for $ty {
            const WANTED: &'static str = stringify!($ty);

            fn from_value(value: &Value) -> Result<Self, Mismatch> {
                let found = value.as_integer().ok_or(Mismatch::Type)?;
                found.try_into().map_err(|_| Mismatch::Range(found.to_string()))
            }
        }

        impl FromValue<'_> for Vec<$ty> {
            const WANTED: &'static str = concat!("array of ", stringify!($ty));

            fn from_value(value: &Value) -> Result<Self, Mismatch> {
                elements(value)
            }
        }
    )*};
}

integers_from_value! { u8 i8 u16 i16 u32 i32 u64 i64 }

fn elements<T: for<'a> FromValue<'a>>(value: &Value) -> Result<Vec<T>, Mismatch> {
    let Value::Array(array) = value else { return Err(Mismatch::Type) };
    (0..array.len()).map(|index| T::from_value(&array.get(index).ok_or(Mismatch::Type)?)).collect()
}

impl FromValue<'_> for f32 {
    const WANTED: &'static str = "f32";

    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        match *value {
            Value::F32(x) => Ok(x),
            Value::F64(x) if x.is_finite() && !(x as f32).is_finite() => Err(Mismatch::Range(x.to_string())),
            Value::F64(x) => Ok(x as f32),
            _ => Err(Mismatch::Type),
        }
    }
}

impl FromValue<'_> for Vec<f32> {
    const WANTED: &'static str = "array of f32";

    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        elements(value)
    }
}

impl FromValue<'_> for bool {
    const WANTED: &'static str = "bool";

    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        match *value {
            Value::Bool(x) => Ok(x),
            _ => Err(Mismatch::Type),
        }
    }
}

impl<'a> FromValue<'a> for &'a [u8] {
    const WANTED: &'static str = "string";

    fn from_value(value: &'a Value) -> Result<Self, Mismatch> {
        match value {
            Value::String(bytes) => Ok(bytes),
            _ => Err(Mismatch::Type),
        }
    }
}

impl<'a> FromValue<'a> for &'a str {
    const WANTED: &'static str = "string in UTF-8";

    fn from_value(value: &'a Value) -> Result<Self, Mismatch> {
        let bytes = <&[u8]>::from_value(value)?;
        std::str::from_utf8(bytes).map_err(|_| Mismatch::Range(shown(&String::from_utf8_lossy(bytes))))
    }
}

impl<'a> FromValue<'a> for &'a StringArray {
    const WANTED: &'static str = "array of string";

    fn from_value(value: &'a Value) -> Result<Self, Mismatch> {
        match value {
            Value::Array(Array::String(strings)) => Ok(strings),
            _ => Err(Mismatch::Type),
        }
    }
}

macro_rules! value_from {
    ($($ty:ty, $variant:ident;)*) => {$(
        impl From<$ty> for Value {
            fn from(value: $ty) -> Self {
                Self::$variant(value)
            }
        }
        impl From<Vec<$ty>> for Value {
            fn from(items: Vec<$ty>) -> Self {
                Self::Array(Array::$variant(items))
            }
        }
    )*};
}

value_from! { i8, I8; u16, U16; i16, I16; u32, U32; i32, I32; f32, F32; bool, Bool; u64, U64; i64, I64; f64, F64; }

// No `From<Vec<u8>>`: it could as well mean text.
impl From<u8> for Value {
    fn from(value: u8) -> Self {
        Self::U8(value)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.as_bytes().to_vec())
    }
}

impl From<StringArray> for Value {
    fn from(strings: StringArray) -> Self {
        Self::Array(Array::String(strings))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(entries: &[(&str, Value)]) -> Metadata {
        let mut metadata = Metadata::default();
        for (key, value) in entries {
            let slot = metadata.slot(key).expect_err("no key stands twice here");
            metadata.insert(slot, (*key).to_owned(), value.clone());
        }
        metadata
    }

    #[test]
    fn order_is_kept_and_every_key_is_found() {
        let keys = ["m", "z", "a", "k", "b"];
        let entries: Vec<_> = keys.iter().zip(0u32..).map(|(&key, i)| (key, Value::U32(i))).collect();
        let metadata = metadata(&entries);
        assert_eq!(metadata.iter().map(|(key, _)| key).collect::<Vec<_>>(), keys);
        for (key, value) in &entries {
            assert_eq!(metadata.get(key), Some(value));
        }
        assert_eq!(metadata.get("c"), None);
    }

    #[test]
    fn integers_of_any_width_are_taken_when_they_fit() {
        let metadata = metadata(&[
            ("small", Value::U8(7)),
            ("negative", Value::I32(-1)),
            ("large", Value::U64(1 << 32)),
            ("truth", Value::Bool(true)),
            ("kinds", Value::from(vec![1i32, 3, 6])),
            ("eps", Value::F64(1e-5)),
            ("huge", Value::F64(1e300)),
        ]);
        assert_eq!(metadata.u32("small").expect("7 fits"), 7);
        assert_eq!(metadata.u64("large").expect("2^32 fits 64 bits"), 1 << 32);
        assert!((metadata.f32("eps").expect("an f64") - 1e-5).abs() < 1e-12);
        assert_eq!(metadata.required::<Vec<u8>>("kinds").expect("they fit"), [1, 3, 6]);
        let message = |result: Result<u32, GgufError>| result.expect_err("it does not fit").to_string();
        assert_eq!(message(metadata.u32("negative")), "GGUF: negative is -1, which is no u32");
        assert_eq!(message(metadata.u32("large")), "GGUF: large is 4294967296, which is no u32");
        assert_eq!(message(metadata.u32("truth")), "GGUF: truth is of type bool, wanted u32");
        assert_eq!(message(metadata.u32("kinds")), "GGUF: kinds is of type array of i32, wanted u32");
        assert_eq!(message(metadata.u32("none")), "GGUF: metadata key none is missing, wanted u32");
        assert!(matches!(metadata.f32("huge"), Err(GgufError::OutOfRange { .. })));
        assert_eq!(metadata.optional::<u32>("none").expect("absent is fine"), None);
    }

    #[test]
    fn strings_keep_bytes_that_are_not_text() {
        let strings = StringArray::from_strings([&b"a"[..], b"", b"\xe2\x96", b"\xe2\x96\x81the"]).expect("short");
        assert_eq!(strings.len(), 4);
        assert_eq!(strings.get(1), Some(&b""[..]));
        assert_eq!(strings.get(2), Some(&b"\xe2\x96"[..]));
        assert_eq!(strings.get_lossy(2).as_deref(), Some("\u{fffd}"));
        assert_eq!(strings.get(4), None);
        assert_eq!(strings.iter().map(<[u8]>::len).collect::<Vec<_>>(), [1, 0, 2, 6]);
    }
}

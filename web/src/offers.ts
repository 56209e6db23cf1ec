// The models on offer: the build carries the list in the page itself, so nothing has to be asked for and nothing can be missing.

/** A model on offer: an entry of `offers.json`, or of the server that the page comes from. */
export interface Offer { name: string; url: string; bytes: number; sha256?: string; about?: string; licence?: string; }

/** The list in this page. One that is empty, not there or not a list is a page without offers. */
export function offersHere(): Offer[] {
  let list: unknown;
  try {
    list = JSON.parse(document.getElementById("offers")?.textContent ?? "");
  } catch {
    return [];
  }
  const isOffer = (offer: Partial<Offer> | null) =>
    typeof offer?.url === "string" && typeof offer.name === "string" && typeof offer.bytes === "number";
  return Array.isArray(list) ? list.filter(isOffer) : [];
}

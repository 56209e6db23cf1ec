// The kinds of gates, as the engine names and describes them (`GateKind`; a test compares the two lists).

/** Name and what it is. */
export const GATES: [string, string][] = [
  ["paper", "one gate a head, through tanh (the paper)"],
  ["linear", "one gate a head, raw (litgpt)"],
  ["peft", "one gate a layer, raw (Hugging Face PEFT can load it)"],
  ["scalar-tanh", "one gate a layer, through tanh"],
];

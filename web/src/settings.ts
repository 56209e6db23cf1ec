// What the reader can set, kept in IndexedDB.

import type { SamplingSettings } from "../engine/src/index.js";
import { loadSetting, saveSetting } from "./chats.js";

export interface Settings {
  system: string;
  temperature: number;
  topK: number;
  topP: number;
  minP: number;
  repeatPenalty: number;
  /** Empty: another one for every answer. */
  seed: number | null;
  maxTokens: number;
  /** Texts that end an answer, a line each; `\n` in one is a line break. */
  stops: string;
  /** Positions of a conversation. */
  context: number;
  theme: "system" | "light" | "dark";
  shortcuts: boolean;
}

export const DEFAULTS: Settings = {
  system: "", temperature: 0.8, topK: 40, topP: 0.95, minP: 0.05, repeatPenalty: 1, seed: null, maxTokens: 1024, stops: "",
  context: 4096, theme: "system", shortcuts: true,
};

/** The settings as they were left. */
export async function loadSettings(): Promise<Settings> {
  const kept = (await loadSetting<Partial<Settings>>("settings")) ?? {};
  const settings = { ...DEFAULTS };
  for (const key of Object.keys(DEFAULTS) as (keyof Settings)[]) {
    const value = kept[key];
    // `seed` may be null or a number; everything else keeps its kind.
    if (value !== undefined && (key === "seed" || typeof value === typeof DEFAULTS[key])) Object.assign(settings, { [key]: value });
  }
  return settings;
}

export const saveSettings = (settings: Settings) => saveSetting("settings", settings);

/** What the engine is told; `attempt` gives another answer to the same question other random numbers. */
export function sampling(settings: Settings, attempt: number): SamplingSettings {
  const seed = settings.seed === null ? Math.floor(Math.random() * 2 ** 32) : settings.seed + attempt;
  const { temperature, topK, topP, minP, repeatPenalty } = settings;
  return { temperature, topK, topP, minP, repeatPenalty, seed };
}

/** The texts that end an answer. */
export const stopTexts = (settings: Settings): string[] =>
  settings.stops.split("\n").filter(Boolean).map((line) => line.replaceAll("\\n", "\n"));

/** Colours follow the system unless the reader says otherwise. */
export function applyTheme(theme: Settings["theme"]): void {
  document.documentElement.dataset["theme"] = theme;
}

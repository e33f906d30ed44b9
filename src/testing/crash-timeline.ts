// drawTimeline(): a crash as a picture. Takes the story of a replay and gives one HTML page.

import type { CrashStory } from "./crash-story.js";

/** The page: one HTML document, self-contained. */
export function drawTimeline(story: CrashStory): string {
  return `<!doctype html><title>${story.line}</title>`;
}

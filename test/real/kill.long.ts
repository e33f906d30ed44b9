// `npm run kills`: the kills of kill.test.ts, 5,000 of them unless STABLELOG_KILLS says otherwise.

process.env["STABLELOG_KILLS"] ??= "5000";
await import("./kill.test.js");

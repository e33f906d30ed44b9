// The environment for child processes whose output a test compares: nothing in it colours the output or makes Node.js talk.

/** A copy of this process's environment without the variables that change what a child prints. */
export function childEnv(): NodeJS.ProcessEnv {
  const { FORCE_COLOR: _force, NO_COLOR: _no, NODE_OPTIONS: _options, NODE_DEBUG: _debug, ...env } = process.env;
  return env;
}

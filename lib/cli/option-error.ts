// Errors that come of an option's value when it is used, after it was parsed.
import { UffdError, messageOf } from '../errors.js';

/** What goes wrong says which option it was. @throws UffdError ERR_INVALID_ARGUMENT */
export function naming<T>(option: string, use: () => T): T {
  try {
    return use();
  } catch (error) {
    throw named(option, error);
  }
}

export function named(option: string, error: unknown): UffdError {
  return new UffdError('ERR_INVALID_ARGUMENT', `${option}: ${messageOf(error)}`, { cause: error });
}

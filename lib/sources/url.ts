// URLs as they may be shown.

export function isUrl(path: string): boolean {
  return /^https?:\/\//.test(path);
}

/** Without what may be secret: user, password, query. */
export function displayUrl(url: string): string {
  const { origin, pathname } = new URL(url);
  return `${origin}${pathname}`;
}

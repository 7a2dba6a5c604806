// Loads the package as root (its folder may be closed to others), then asks for huge pages as nobody.
import process from 'node:process';
import { ReservedHugePages } from '../../dist/stress/huge-pages.js';

process.setgroups([]);
process.setgid(65534);
process.setuid(65534);
try {
  await ReservedHugePages.reserve(2 ** 30, () => undefined);
} catch ({ code, message }) {
  console.log(`${code}: ${message}`);
}

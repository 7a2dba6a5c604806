// Why a userfaultfd or KVM cannot be had here. The errno alone does not tell; what the probes find together does.
import { KernelError } from '../errors.js';
import { probe } from '../probe/run.js';

/** What was to be opened, and what to ask when that has failed. */
function questionsOf({ syscall, message }: KernelError): { what: string; only: string } | undefined {
  if (syscall === 'userfaultfd') return { what: 'a userfaultfd', only: 'uffd.dev,uffd.syscall.full' };
  if (syscall === 'open' && message.includes('/dev/kvm')) return { what: '/dev/kvm', only: 'kvm.open' };
  return undefined;
}

/** A line with what stands in the way, and the remedies; undefined for other errors, and where nothing is found. */
export async function refusalOf(error: unknown): Promise<string | undefined> {
  if (!(error instanceof KernelError)) return undefined;
  const questions = questionsOf(error);
  if (questions === undefined) return undefined;
  try {
    const { probes } = await probe({ only: questions.only });
    const reasons = probes.flatMap(({ blocker, remedy }) =>
      blocker === undefined || remedy === undefined ? [] : [`${blocker}: ${remedy}`],
    );
    if (reasons.length === 0) return undefined;
    return `${questions.what} is refused here (${error.code}); ${reasons.join('; ')}`;
  } catch {
    // The error itself has to do.
    return undefined;
  }
}

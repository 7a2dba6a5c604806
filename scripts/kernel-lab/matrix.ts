// docs/kernel-matrix.md: what was recorded on each kernel, side by side.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { format, resolveConfig } from 'prettier';
import { areas } from '../../dist/probe/areas/areas.js';
import { recordedFor, recordedKernels } from './recorded.js';
import { projectRoot } from './workspace.js';

const path = join(projectRoot, 'docs/kernel-matrix.md');

const INTRODUCTION = `# Kernels

What \`uffd probe\` answered on other kernels, each booted in an emulator by \`npm run lab\` ([kernel-lab.md](kernel-lab.md)),
which writes this page. What a probe asks exactly, and what its answers mean: \`uffd probe --explain ID\`. Beside \`no\`
and \`differs\` stands what was seen. \`gmem\` is a **patched 7.3 kernel** with userfaultfd on guest_memfd; no released
kernel has that, and what will be released may differ.
`;

interface Row {
  readonly id: string;
  readonly description: string;
  readonly answers: readonly string[];
}

export async function writeMatrix(): Promise<void> {
  writeFileSync(path, await matrix());
}

export async function matrixIsCurrent(): Promise<boolean> {
  return readFileSync(path, 'utf8') === (await matrix());
}

async function matrix(): Promise<string> {
  const kernels = recordedKernels();
  const recorded = kernels.map((name) => recordedFor(name)!);
  const sections = [INTRODUCTION];
  sections.push(
    table(
      ['kernel', 'release'],
      kernels.map((name, i) => [name, recorded[i]!.release]),
    ),
  );
  const same: Row[] = [];
  for (const { title, probes } of areas) {
    const rows = probes
      .map(({ id, description }) => ({ id, description, answers: recorded.map(({ answers }) => answers[id] ?? '') }))
      .filter(({ answers }) => answers.some((answer) => answer !== ''));
    const differ = rows.filter(({ answers }) => new Set(answers).size > 1);
    same.push(...rows.filter((row) => !differ.includes(row)));
    if (differ.length === 0) continue;
    sections.push(
      `## ${title}\n`,
      table(
        ['probe', ...kernels],
        differ.map(({ id, answers }) => [`\`${id}\``, ...answers]),
      ),
    );
    sections.push(differ.map(({ id, description }) => `- \`${id}\`: ${description}`).join('\n'));
  }
  sections.push('## The same on all of them\n');
  sections.push(
    table(
      ['probe', 'answer', 'what it asks'],
      same.map((row) => [`\`${row.id}\``, row.answers[0]!, row.description]),
    ),
  );
  return format(sections.join('\n'), { ...(await resolveConfig(path)), parser: 'markdown' });
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return `${[line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n')}\n`;
}

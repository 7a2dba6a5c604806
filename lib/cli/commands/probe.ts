// `uffd probe`: what this kernel does, and what stands in the way here.
import { readFileSync } from 'node:fs';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { UffdError, messageOf } from '../../errors.js';
import { areas, findProbe } from '../../probe/areas/areas.js';
import { compareReports, parseReport } from '../../probe/compare.js';
import type { Probe } from '../../probe/probe.js';
import type { ProbeReport } from '../../probe/report.js';
import { probe } from '../../probe/run.js';
import { selectIds } from '../../probe/select.js';
import { ExitCode, onStopRequest } from '../exit.js';
import { differenceText, explainText, listText, markdownText, summaryText } from '../probe-text.js';

interface ProbeCommandOptions {
  only?: string;
  verbose: boolean;
  json: boolean;
  markdown: boolean;
  list: boolean;
  explain?: Probe;
  require?: string[];
  diff?: ProbeReport;
}

const ids = areas.flatMap(({ probes }) => probes.map(({ id }) => id));

export function addProbe(program: Command): void {
  program
    .command('probe')
    .description('ask this kernel what it does with userfaultfd and its memory, by doing it')
    .addOption(new Option('--only <globs>', "only these, e.g. 'reg.*,copy.*'").argParser(patterns))
    .option('--verbose', 'every probe, with its evidence', false)
    .addOption(new Option('--json', 'one JSON object on stdout (docs/probe.md)').default(false).conflicts('markdown'))
    .option('--markdown', 'a table to paste into an issue', false)
    .addOption(
      new Option('--list', 'the probes, without asking')
        .default(false)
        .conflicts(['explain', 'json', 'markdown', 'diff']),
    )
    .addOption(
      new Option('--explain <id>', 'what a probe asks, and what each answer means')
        .argParser(known)
        .conflicts(['json', 'markdown', 'diff']),
    )
    .addOption(
      new Option('--require <ids>', 'ask these alone; exit status 1 unless all of them are yes')
        .argParser(list)
        .conflicts(['only', 'list', 'explain', 'diff']),
    )
    .addOption(
      new Option('--diff <file>', 'what is not as in this report of --json; exit status 0 either way')
        .argParser(earlier)
        .conflicts('markdown'),
    )
    .addHelpText('after', '\nIt changes nothing on the host, and runs as any user.')
    .action(async (options: ProbeCommandOptions) => {
      process.exitCode = ExitCode.ok;
      if (options.explain !== undefined) print(explainText(options.explain));
      else if (options.list) print(listText(new Set(selectIds(ids, options.only ?? '*'))));
      else await run(options);
    });
}

async function run(options: ProbeCommandOptions): Promise<void> {
  const stop = new AbortController();
  const forget = onStopRequest((why) => {
    stop.abort(new Error(`stopped by ${why}`));
  }, false);
  try {
    const only = options.require?.join(',') ?? options.only;
    const report = await probe({ ...(only !== undefined && { only }), signal: stop.signal });
    if (options.require !== undefined) holds(report, options);
    else print(text(report, options));
  } finally {
    forget();
  }
}

/** Says on stderr what is not `yes`. */
function holds(report: ProbeReport, options: ProbeCommandOptions): void {
  const lacking = report.probes.filter(({ result }) => result !== 'yes');
  if (options.json || options.markdown || options.verbose) print(text(report, options));
  if (lacking.length === 0) return;
  process.exitCode = ExitCode.failed;
  const reasons = lacking.map(
    ({ id, result, evidence, remedy, meaning }) =>
      `${id} ${result === 'differs' ? result : `is ${result}`} (${remedy ?? meaning ?? evidence.seen})`,
  );
  process.stderr.write(`uffd: ${reasons.join('; ')}\n`);
}

function text(report: ProbeReport, { json, markdown, verbose, diff }: ProbeCommandOptions): string {
  if (diff !== undefined) {
    const differences = compareReports(diff, report);
    return json ? JSON.stringify(differences) : differenceText(differences, diff, report);
  }
  if (json) return JSON.stringify(report);
  return markdown ? markdownText(report) : summaryText(report, verbose);
}

function print(lines: string): void {
  process.stdout.write(`${lines}\n`);
}

/** Turns what the library says of an argument into a usage error. */
function usage<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw error instanceof UffdError ? new InvalidArgumentError(error.message) : error;
  }
}

function patterns(given: string): string {
  usage(() => selectIds(ids, given));
  return given;
}

function list(given: string): string[] {
  return given.split(',').map((id) => known(id.trim()).id);
}

function known(id: string): Probe {
  const found = findProbe(id);
  if (found === undefined) throw new InvalidArgumentError(`No probe is called ${JSON.stringify(id)}: see --list.`);
  return found;
}

function earlier(path: string): ProbeReport {
  return usage(() => {
    let content: string;
    try {
      content = readFileSync(path, 'utf8');
    } catch (error) {
      throw new UffdError('ERR_INVALID_ARGUMENT', messageOf(error));
    }
    return parseReport(content, path);
  });
}

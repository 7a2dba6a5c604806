export function testProgram(source: string, folder: string): string;

// A virtual machine whose memory is served: node main.mjs SOCKET SIZE
// SIZE bytes, of the fault server at SOCKET, are the guest's memory from 2 MiB on. The guest adds up the first 64 bits
// of each page, and says the sum at a port. SIZE is whole pages, at most 1 GiB less 2 MiB.
import { Kvm, Mapping, Memfd, Userfaultfd, handOff } from 'userfaultfd';

const [socket, size] = [process.argv[2], Number(process.argv[3])];
if (socket === undefined || !(size > 0)) {
  console.error('Usage: node main.mjs SOCKET SIZE');
  process.exit(2);
}
const [TABLES, CODE, SERVED, PORT] = [0x1000, 0x8000, 0x200000, 0x500];
const little32 = (value) => [0, 8, 16, 24].map((shift) => (value >> shift) & 0xff);

// 1. KVM, and a machine.
const kvm = Kvm.open();
const vm = kvm.createVm();

// 2. Memory of our own: page tables that map the first GiB to itself in pages of 2 MiB, and the program.
const own = Mapping.anonymous(SERVED);
const tables = Buffer.alloc(3 * 4096);
tables.writeBigUInt64LE(BigInt(TABLES + 4096) | 3n, 0); // present, writable
tables.writeBigUInt64LE(BigInt(TABLES + 8192) | 3n, 4096);
for (let i = 0; i < 512; i++) tables.writeBigUInt64LE(BigInt(i * 2 ** 21) | 0x83n, 8192 + i * 8); // and large
// prettier-ignore
const program = [
  0xbb, ...little32(SERVED),                //       mov ebx, SERVED
  0xb9, ...little32(size / 4096),           //       mov ecx, pages
  0x31, 0xc0,                               //       xor eax, eax
  0x48, 0x03, 0x03,                         // next: add rax, [rbx]
  0x48, 0x81, 0xc3, ...little32(4096),      //       add rbx, 4096
  0xff, 0xc9,                               //       dec ecx
  0x75, 0xf2,                               //       jnz next
  0x66, 0xba, PORT & 0xff, PORT >> 8, 0xef, //       mov dx, PORT; out dx, eax
  0x48, 0xc1, 0xe8, 0x20, 0xef,             //       shr rax, 32; out dx, eax
  0xf4,                                     //       hlt
];
await own.write(TABLES, tables);
await own.write(CODE, Buffer.from(program));

// 3. Memory that comes when the guest touches it, from the fault server.
const memfd = Memfd.create({ sizeBytes: size });
const served = Mapping.map(memfd);
const userfaultfd = Userfaultfd.open(); // closed last: missing pages would read as zeroes
userfaultfd.register(served, ['missing', 'minor']);
const handoff = await handOff(socket, { userfaultfd, memfd, mappings: [{ mapping: served, offset: 0 }] });
handoff.done.catch(({ message }) => {
  console.error(message);
  process.exit(1); // a vCPU that waits for its page goes with the process
});

// 4. Which guest addresses are which memory.
vm.setMemory({ slot: 0, address: 0, lengthBytes: SERVED, mapping: own });
vm.setMemory({ slot: 1, address: SERVED, lengthBytes: size, mapping: served });

// 5. A processor in 64-bit mode: flat segments, paging on.
const vcpu = vm.createVcpu(0);
vcpu.setCpuid(kvm.supportedCpuid());
const special = vcpu.specialRegisters;
const segment = { ...special.cs, base: 0n, limit: 0xffffffff, g: 1, dpl: 0 };
const data = { ...segment, selector: 16, type: 3, db: 1, l: 0 };
const code = { ...segment, selector: 8, type: 11, db: 0, l: 1 };
Object.assign(special, { cs: code, ds: data, es: data, fs: data, gs: data, ss: data });
Object.assign(special, { cr0: 0x80000011n, cr3: BigInt(TABLES), cr4: 0x20n, efer: 0x500n });
vcpu.specialRegisters = special;
vcpu.registers = { ...vcpu.registers, rip: BigInt(CODE), rflags: 2n };

// 6. Run, until it halts. Each run is a promise: its thread waits for pages, this one does not.
const words = [];
for (let exit = await vcpu.run(); exit.type !== 'hlt'; exit = await vcpu.run()) {
  if (exit.type !== 'io' || exit.port !== PORT) throw new Error(`the guest ended with: ${exit.type}`);
  words.push(BigInt(exit.data.readUInt32LE()));
}
console.log(`sum ${(words[0] | (words[1] << 32n)).toString(16)}, ${vcpu.waits.faults} faults`);
await vm.close();
handoff.close();
userfaultfd.close();

// The guest: 64-bit long mode, plain integer instructions, so that it also runs where KVM emulates every one of them.
// The bytes are those of examples/mini-vmm/guest.s, which a test assembles.

/** What the guest finds in its registers: rsi, rdi the memory it fills; r8 the stride; r9 the factor; r15 its number. */
export interface GuestWork {
  readonly start: number;
  readonly end: number;
  readonly strideBytes: number;
}

/** Ports the guest speaks to. */
export const Port = {
  /** Out, a byte: its output. */
  serial: 0x3f8,
  /** Out, a byte: `Control`. */
  control: 0x500,
  /** In, 32 bits: how many vCPUs share the work. */
  vcpus: 0x504,
} as const;

/** What the guest says at the control port. */
export const Control = {
  /** Everything is filled, or everything is verified; the sum is printed. */
  done: 1,
  /** The word at the address in r12 is not what was written there. */
  wrong: 3,
} as const;

/** Odd: no address times it is zero, so that no word the guest writes is one. */
export const FACTOR = 0x9e3779b97f4a7c15n;

/** Where things lie in guest memory. */
export const Layout = {
  pageTables: 0x1000,
  /** Two pairs of 64-bit words: sum and number of vCPUs that are done, filling and verifying. */
  sums: 0x8000,
  /** Of vCPU i: the page below `stacks + (i + 1) * 4096`. */
  stacks: 0x9000,
  code: 0x10000,
  data: 0x100000,
} as const;

/** Offsets into the code. */
export const Entry = { fill: 0x0, verify: 0x26 } as const;

// prettier-ignore
const instructions = [
  // Every vCPU fills its share of the words with address * factor, and sums them up.
  // fill:
  0xe8, 0x58, 0x00, 0x00, 0x00, // call partition
  // fill_next:
  0x48, 0x39, 0xfb, // cmp rbx,rdi
  0x73, 0x12, // jae fill_end
  0x48, 0x89, 0xd8, // mov rax,rbx
  0x49, 0x0f, 0xaf, 0xc1, // imul rax,r9
  0x48, 0x89, 0x03, // mov QWORD PTR [rbx],rax
  0x49, 0x01, 0xc4, // add r12,rax
  0x4c, 0x01, 0xdb, // add rbx,r11
  0xeb, 0xe9, // jmp fill_next
  // fill_end:
  0xbd, 0x00, 0x80, 0x00, 0x00, // mov ebp,0x8000
  0xe8, 0x54, 0x00, 0x00, 0x00, // call finish
  // A restored guest goes on here: reads its share of the words, compares, and sums them up.
  // verify:
  0xe8, 0x32, 0x00, 0x00, 0x00, // call partition
  // verify_next:
  0x48, 0x39, 0xfb, // cmp rbx,rdi
  0x73, 0x14, // jae verify_end
  0x48, 0x89, 0xd8, // mov rax,rbx
  0x49, 0x0f, 0xaf, 0xc1, // imul rax,r9
  0x48, 0x3b, 0x03, // cmp rax,QWORD PTR [rbx]
  0x75, 0x15, // jne wrong
  0x49, 0x01, 0xc4, // add r12,rax
  0x4c, 0x01, 0xdb, // add rbx,r11
  0xeb, 0xe7, // jmp verify_next
  // verify_end:
  0xbd, 0x10, 0x80, 0x00, 0x00, // mov ebp,0x8010
  0xe8, 0x2c, 0x00, 0x00, 0x00, // call finish
  // Done; or a vCPU that the restored machine does not have work for.
  // park:
  0xf4, // hlt
  0xeb, 0xfd, // jmp park
  // A word is not what it was: tell where (r12).
  // wrong:
  0x49, 0x89, 0xdc, // mov r12,rbx
  0xb0, 0x03, // mov al,0x3
  0x66, 0xba, 0x00, 0x05, // mov dx,0x500
  0xee, // out dx,al
  0xeb, 0xf1, // jmp park
  // Which words: from rsi + r15 * stride on, every (count * stride)th. The count is asked of the VMM.
  // partition:
  0x66, 0xba, 0x04, 0x05, // mov dx,0x504
  0xed, // in eax,dx
  0x41, 0x89, 0xc2, // mov r10d,eax
  0x4d, 0x89, 0xd3, // mov r11,r10
  0x4d, 0x0f, 0xaf, 0xd8, // imul r11,r8
  0x4c, 0x89, 0xfb, // mov rbx,r15
  0x49, 0x0f, 0xaf, 0xd8, // imul rbx,r8
  0x48, 0x01, 0xf3, // add rbx,rsi
  0x45, 0x31, 0xe4, // xor r12d,r12d
  0xc3, // ret
  // Adds the sum to the machine's (at rbp); the vCPU that comes last prints it.
  // finish:
  0xf0, 0x4c, 0x01, 0x65, 0x00, // lock add QWORD PTR [rbp+0x0],r12
  0xb8, 0x01, 0x00, 0x00, 0x00, // mov eax,0x1
  0xf0, 0x48, 0x0f, 0xc1, 0x45, 0x08, // lock xadd QWORD PTR [rbp+0x8],rax
  0x48, 0xff, 0xc0, // inc rax
  0x4c, 0x39, 0xd0, // cmp rax,r10
  0x74, 0x02, // je last
  0xf4, // hlt
  0xc3, // ret
  // "checksum: ", and 16 digits.
  // last:
  0x4c, 0x8b, 0x65, 0x00, // mov r12,QWORD PTR [rbp+0x0]
  0x4c, 0x8d, 0x35, 0x3b, 0x00, 0x00, 0x00, // lea r14,[rip + text]
  0x66, 0xba, 0xf8, 0x03, // mov dx,0x3f8
  // text_next:
  0x41, 0x8a, 0x06, // mov al,BYTE PTR [r14]
  0x84, 0xc0, // test al,al
  0x74, 0x06, // je digits
  0xee, // out dx,al
  0x49, 0xff, 0xc6, // inc r14
  0xeb, 0xf3, // jmp text_next
  // digits:
  0xb9, 0x10, 0x00, 0x00, 0x00, // mov ecx,0x10
  // digit_next:
  0x49, 0xc1, 0xc4, 0x04, // rol r12,0x4
  0x44, 0x89, 0xe0, // mov eax,r12d
  0x83, 0xe0, 0x0f, // and eax,0xf
  0x83, 0xf8, 0x0a, // cmp eax,0xa
  0x72, 0x03, // jb decimal
  0x83, 0xc0, 0x27, // add eax,0x27
  // decimal:
  0x83, 0xc0, 0x30, // add eax,0x30
  0xee, // out dx,al
  0xff, 0xc9, // dec ecx
  0x75, 0xe6, // jne digit_next
  0xb0, 0x0a, // mov al,0xa
  0xee, // out dx,al
  0xb0, 0x01, // mov al,0x1
  0x66, 0xba, 0x00, 0x05, // mov dx,0x500
  0xee, // out dx,al
  0xc3, // ret
];

export const guestProgram: Uint8Array = Buffer.from([...instructions, ...Buffer.from('checksum: \0')]);

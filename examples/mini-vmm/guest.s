# The guest of the mini VMM: fills its memory with a pattern, sums it up, prints the sum; later verifies all of it.
# as -o guest.o guest.s && objcopy -O binary -j .text guest.o guest.bin gives the bytes in lib/vmm/guest-program.ts.
# rsi, rdi: the memory; r8: stride; r9: factor; r15: number of this vCPU. Ports: 0x3f8 output, 0x500 control, 0x504 vCPUs.
.intel_syntax noprefix
.code64
fill:
  call partition
fill_next:
  cmp rbx, rdi
  jae fill_end
  mov rax, rbx
  imul rax, r9
  mov [rbx], rax
  add r12, rax
  add rbx, r11
  jmp fill_next
fill_end:
  mov ebp, 0x8000
  call finish
verify:
  call partition
verify_next:
  cmp rbx, rdi
  jae verify_end
  mov rax, rbx
  imul rax, r9
  cmp rax, [rbx]
  jne wrong
  add r12, rax
  add rbx, r11
  jmp verify_next
verify_end:
  mov ebp, 0x8010
  call finish
park:
  hlt
  jmp park
wrong:
  mov r12, rbx
  mov al, 3
  mov dx, 0x500
  out dx, al
  jmp park
partition:
  mov dx, 0x504
  in eax, dx
  mov r10d, eax
  mov r11, r10
  imul r11, r8
  mov rbx, r15
  imul rbx, r8
  add rbx, rsi
  xor r12d, r12d
  ret
finish:
  lock add [rbp], r12
  mov eax, 1
  lock xadd [rbp + 8], rax
  inc rax
  cmp rax, r10
  je last
  hlt
  ret
last:
  mov r12, [rbp]
  lea r14, [rip + text]
  mov dx, 0x3f8
text_next:
  mov al, [r14]
  test al, al
  jz digits
  out dx, al
  inc r14
  jmp text_next
digits:
  mov ecx, 16
digit_next:
  rol r12, 4
  mov eax, r12d
  and eax, 15
  cmp eax, 10
  jb decimal
  add eax, 39
decimal:
  add eax, 48
  out dx, al
  dec ecx
  jnz digit_next
  mov al, 10
  out dx, al
  mov al, 1
  mov dx, 0x500
  out dx, al
  ret
text:
  .asciz "checksum: "

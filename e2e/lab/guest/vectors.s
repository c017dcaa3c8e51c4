// Program of the busy guest that uses the CPU's features all the time, for Linux at EL0.
//
// Every vector register holds a pattern, compared again and again without a call of Linux in
// between: 32 registers of SVE in their full length, or of Advanced SIMD on a CPU without SVE. The
// return address of the loop is signed, so a move happens between the signature and its check. An
// event of the PMU counts cycles; the program does not need it.
//
// Exit status: 1 if a register lost its pattern. Otherwise the program never ends; a bad signature
// ends it by a signal.

        .arch   armv8-a+sve

        .equ    AT_HWCAP, 16
        .equ    HWCAP_SVE, 22
        .equ    SYS_exit, 93
        .equ    SYS_sched_yield, 124
        .equ    SYS_perf_event_open, 241
        // Comparisons between two calls of Linux.
        .equ    ROUNDS, 20000

        .global _start
        .text
_start:
        // The stack has the number of arguments, the arguments, 0, the environment, 0, and the
        // auxiliary vector.
        ldr     x0, [sp]
        add     x1, sp, #16
        add     x1, x1, x0, lsl #3
1:      ldr     x0, [x1], #8
        cbnz    x0, 1b
2:      ldp     x2, x3, [x1], #16
        cmp     x2, #AT_HWCAP
        b.eq    3f
        cbnz    x2, 2b
        mov     x3, #0
3:      mov     x19, x3

        // Count cycles of this process on every CPU.
        adr     x0, cycles
        mov     x1, #0
        mov     x2, #-1
        mov     x3, #-1
        mov     x4, #0
        mov     x8, #SYS_perf_event_open
        svc     #0

forever:
        bl      compare
        cbnz    x0, lost
        mov     x8, #SYS_sched_yield
        svc     #0
        b       forever

lost:   mov     x0, #1
        mov     x8, #SYS_exit
        svc     #0

// Returns the number of registers that lost their pattern.
compare:
        paciasp
        stp     x29, x30, [sp, #-16]!
        mov     x0, #0
        mov     w9, #ROUNDS & 0xffff
        tbz     x19, #HWCAP_SVE, without_sve

        ptrue   p0.b
        .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
        mov     z\n\().b, #(\n - 16)
        .endr
1:      .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
        cmpne   p1.b, p0/z, z\n\().b, #(\n - 16)
        cinc    x0, x0, ne
        .endr
        subs    w9, w9, #1
        b.ne    1b
        b       compared

without_sve:
        .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
        movi    v\n\().16b, #(\n + 1)
        .endr
2:      mov     x1, #0x0101010101010101
        mov     x2, x1
        .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
        mov     x3, v\n\().d[0]
        cmp     x3, x2
        cinc    x0, x0, ne
        mov     x3, v\n\().d[1]
        cmp     x3, x2
        cinc    x0, x0, ne
        add     x2, x2, x1
        .endr
        subs    w9, w9, #1
        b.ne    2b

compared:
        ldp     x29, x30, [sp], #16
        autiasp
        ret

        .section .rodata
        .balign 8
// struct perf_event_attr of the first version: PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES.
cycles: .word   0, 64
        .quad   0
        .zero   48

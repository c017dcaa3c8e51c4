/* Program that reads, as a guest, the properties of its host that no register list holds.
 *
 * The program runs on one vCPU at EL1, with the MMU off, at any address that is a multiple of
 * 4 KiB. It needs 8 KiB of memory. The results are pairs of 64-bit words from offset 0x1008: 1 and
 * the value, or 2 and 0 if the read is undefined. When all results are in memory, the word at
 * offset 0x1000 is 1, or 3 if the vCPU does not run at EL1. The program ends with PSCI SYSTEM_OFF.
 *
 * `fact_program.rs` has the order of the results. `BLESS=1 cargo xtask live` assembles this file.
 */
        .arch armv8-a
        .equ RESULTS, 0x1000
        .equ READ, 1
        .equ UNDEFINED, 2
        .equ DONE, 1
        .equ OTHER_LEVEL, 3
        .equ SYSTEM_OFF, 0x84000008

        /* x9 is the status that the next result gets. x20 is the base, x21 the next result. */
        .macro result value:req
        stp     x9, \value, [x21], #16
        .endm
        .macro read register:req
        mov     x9, #READ
        mov     x8, #0
        mrs     x8, \register
        result  x8
        .endm

        .text
        .org    0
start:
        b       begin
        .org    8
        /* Address of the GIC's distributor, which the loader of the program writes; 0 for none. */
distributor:
        .quad   0

begin:
        adr     x20, start
        mov     x21, x20
        add     x21, x21, #RESULTS
        mov     x22, x21                /* word of the state */
        add     x21, x21, #8
        mov     x23, #OTHER_LEVEL
        mrs     x0, CurrentEL
        cmp     x0, #(1 << 2)
        b.ne    end
        adr     x1, vectors
        msr     vbar_el1, x1
        mov     x1, #(3 << 20 | 3 << 16) /* FPEN and ZEN: floating point and SVE do not trap */
        msr     cpacr_el1, x1
        isb
        mov     x9, #READ
        mov     x1, #7                  /* SRE: system registers of the GIC */
        msr     S3_0_C12_C12_5, x1      /* ICC_SRE_EL1 */
        isb

        read    cntfrq_el0
        read    ctr_el0
        read    dczid_el0
        read    midr_el1
        read    revidr_el1
        read    S3_0_C0_C7_0            /* ID_AA64MMFR0_EL1 */
        read    S3_3_C9_C12_6           /* PMCEID0_EL0 */
        read    S3_3_C9_C12_7           /* PMCEID1_EL0 */
        read    S3_1_C0_C0_4            /* GMID_EL1 */
        read    S3_0_C12_C12_4          /* ICC_CTLR_EL1 */

        /* SVE vector lengths: the lengths that result from each ZCR_EL1.LEN. */
        .arch_extension sve
        mov     x9, #READ
        mov     x10, #0                 /* next LEN */
        mov     x11, #0                 /* set of lengths: bit n for (n + 1) * 128 bits */
next_length:
        msr     S3_0_C1_C2_0, x10       /* ZCR_EL1 */
        cmp     x9, #READ
        b.ne    lengths_known
        isb
        rdvl    x12, #1                 /* bytes */
        lsr     x12, x12, #4
        sub     x12, x12, #1
        mov     x13, #1
        lsl     x13, x13, x12
        orr     x11, x11, x13
        add     x10, x10, #1
        cmp     x10, #16
        b.lo    next_length
lengths_known:
        result  x11

        /* GICD_IIDR */
        ldr     x1, distributor
        mov     x9, #UNDEFINED
        mov     x8, #0
        cbz     x1, distributor_known
        mov     x9, #READ
        ldr     w8, [x1, #8]
distributor_known:
        result  x8
        mov     x23, #DONE

end:
        /* The results bypass the caches. No cache of the host may keep older contents. */
        dsb     sy
        mov     x1, x22
        mov     x2, #(RESULTS + 0x200)
        add     x2, x20, x2
clean_results:
        dc      civac, x1
        add     x1, x1, #16
        cmp     x1, x2
        b.lo    clean_results
        dsb     sy
        str     x23, [x22]
        dsb     sy
        dc      civac, x22
        dsb     sy
        ldr     w0, system_off
        hvc     #0
        /* Without PSCI, the vCPU waits for its end. */
wait:
        wfi
        b       wait

        .balign 4
system_off:
        .word   SYSTEM_OFF

        /* An exception skips the instruction, and the result is `UNDEFINED`. */
        .macro  vector
        .balign 0x80
        b       skip
        .endm
        .org    0x800
vectors:
        .rept   16
        vector
        .endr
skip:
        mrs     x14, elr_el1
        add     x14, x14, #4
        msr     elr_el1, x14
        mov     x9, #UNDEFINED
        mov     x8, #0
        eret

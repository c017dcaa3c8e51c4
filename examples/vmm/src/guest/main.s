// The guest: EL1, MMU off, GICv3, 1 to 60 vCPUs. Each vCPU writes a distinct value to every
// register that it may write, and to some memory. It then repeats a round:
//
//   1. With interrupts masked, it fills the general registers, SP and the registers that exceptions
//       change (ELR_EL1, SPSR_EL1, ESR_EL1, FAR_EL1), waits, also in WFI, and compares all of them.
//   2. It unmasks interrupts. Each of the two timers, CNTV and CNTP, is set again and counted.
//   3. It compares all other registers, the vectors and a page of memory, rewrites another page,
//       checks the clocks, and reports its progress to the VMM.
//
//   main.s       start of vCPUs, rounds
//   registers.s  table of the system registers
//   compare.s    state that is written once and compared in every round
//   time.s       clocks, timers, interrupts, other exceptions
//
// The code is position independent. The VMM copies it from `cpreg_guest_start` to `cpreg_guest_end`
// to any address in the guest's memory. In: x0 the number of vCPUs, x1 the address of their areas,
// 1 MiB each, all zero; x2 1 if CNTP must not be used. `gic.rs` and `report.rs` define the
// addresses of devices.
//
// Conventions: x20 is this vCPU's area, x21 its number. x16 and x17 belong to the exception
// handler, x25 and up to the loop.

	.equ	GUEST_REPORT, 0x09000000
	.equ	GUEST_GICD, 0x08000000
	.equ	GUEST_GICR, 0x10000000

	.equ	GUEST_CNTV, 27			// the INTIDs of the timers
	.equ	GUEST_CNTP, 30

	// An area.
	.equ	A_ROUNDS, 0x000
	.equ	A_TICKS_V, 0x008		// interrupts of CNTV so far
	.equ	A_TICKS_P, 0x010
	.equ	A_LAST_V, 0x018			// CNTVCT_EL0 at the last interrupt of CNTV
	.equ	A_LAST_P, 0x020			// CNTVCT_EL0 at the last interrupt of CNTP
	.equ	A_VIRTUAL, 0x028		// CNTVCT_EL0 when last looked at
	.equ	A_PHYSICAL, 0x030		// CNTPCT_EL0 when last looked at
	.equ	A_UNDEF, 0x038			// set by the handler: the instruction is undefined
	.equ	A_INTERVAL, 0x040		// between two interrupts of a timer
	.equ	A_LATEST, 0x048			// longer than this no timer may be silent
	.equ	A_VECTOR_LENGTH, 0x050		// bytes in a vector of SVE, 0 without SVE
	.equ	A_FOUND_SPSR, 0x060
	.equ	A_FOUND_ELR, 0x068
	.equ	A_FOUND_ESR, 0x070
	.equ	A_FOUND_FAR, 0x078
	.equ	A_GENERAL, 0x100		// x0 ... x30, SP as found
	.equ	A_EXPECTED, 0x1000		// for each entry of the table: what is read, and whether that is undefined
	.equ	A_VECTORS, 0x3000		// as written: 32 vectors, 16 predicates, FFR
	.equ	A_VECTORS_FOUND, 0x6000
	.equ	A_PREDICATES, 0x2000		// behind the vectors
	.equ	A_STAMPS, 0x9000		// for each page that is rewritten: of which round it is
	.equ	A_STACK, 0x10000
	.equ	A_STILL, 0x10000		// pages that are written once
	.equ	STILL_PAGES, 64
	.equ	A_MOVING, 0x50000		// pages that are rewritten one after another
	.equ	MOVING_PAGES, 32

	// Offsets of the report device, as in `report.rs`.
	.equ	R_ROUNDS, 0x00
	.equ	R_TICKS_V, 0x08
	.equ	R_TICKS_P, 0x10
	.equ	R_NAME, 0x18			// the address of a name
	.equ	R_EXPECTED, 0x20
	.equ	R_FOUND, 0x28
	.equ	R_VERDICT, 0x30			// last: one of V_...
	.equ	V_BROKEN, 1			// something was lost: this vCPU stops
	.equ	V_NOTICED, 2			// something else is visible now: it goes on
	.equ	V_PANIC, 3			// an exception that should not be: ESR_EL1, ELR_EL1

	// This vCPU's area, from its MPIDR_EL1: KVM numbers vCPUs by Aff1 * 16 + Aff0.
	.macro	guest_area area, scratch
	adr	\area, guest_areas
	ldr	\area, [\area]
	mrs	\scratch, mpidr_el1
	ubfiz	\scratch, \scratch, #20, #8
	add	\area, \area, \scratch
	mrs	\scratch, mpidr_el1
	ubfx	\scratch, \scratch, #8, #8
	add	\area, \area, \scratch, lsl #24
	.endm

	// out = in mixed with x21, as xorshift* does: a value unique to the vCPU and the register.
	.macro	guest_mix value, scratch
	eor	\value, \value, x21, lsl #32
	ldr	\scratch, =0x9e3779b97f4a7c15
	add	\value, \value, #1
	mul	\value, \value, \scratch
	eor	\value, \value, \value, lsr #29
	mul	\value, \value, \scratch
	.endm

	// Reports that the item with this name has a wrong value, and stops.
	.macro	guest_broken name, expected, found
	mov	x4, \expected
	mov	x5, \found
	adr	x3, \name
	mov	x6, #V_BROKEN
	b	guest_say_and_stop
	.endm

	.balign	2048
	.globl	cpreg_guest_start
cpreg_guest_start:
	mov	x19, x0
	mov	x22, x1
	adr	x0, guest_areas
	stp	x1, x2, [x0]
	dmb	sy
	bl	guest_init_distributor
	mov	x23, #1				// start the others by PSCI: CPU_ON (MPIDR, entry, context)
1:	cmp	x23, x19
	b.hs	2f
	ldr	w0, =0xc4000003
	and	x1, x23, #0xf
	lsr	x2, x23, #4
	orr	x1, x1, x2, lsl #8
	adr	x2, guest_vcpu
	mov	x3, #0
	hvc	#0
	cbz	x0, 3f
	mov	x21, #0
	mov	x1, x0
	guest_broken guest_text_psci, xzr, x1
3:	add	x23, x23, #1
	b	1b
2:

guest_vcpu:					// the others come in here
	guest_area x20, x1
	mrs	x21, mpidr_el1
	ubfx	x1, x21, #8, #8
	and	x21, x21, #0xff
	add	x21, x21, x1, lsl #4
	add	sp, x20, #A_STACK
	adr	x0, guest_vectors
	msr	vbar_el1, x0
	mov	x0, #(3 << 20)			// FP and SIMD, for a start
	msr	cpacr_el1, x0
	isb
	bl	guest_init_interface
	bl	guest_write_table
	bl	guest_write_vectors
	bl	guest_write_memory
	bl	guest_start_timers

// -------------------------------------------------------------------------------------------------
guest_round:
	msr	daifset, #0xf
	// Registers that exceptions change. SPSR_EL1 with bits that every vCPU has.
	ldr	x1, =0x60000345
	msr	spsr_el1, x1
	mov	x1, #0x11
	guest_mix x1, x2
	msr	elr_el1, x1
	mov	x1, #0x12
	guest_mix x1, x2
	msr	far_el1, x1
	mov	x1, #0x13
	guest_mix x1, x2
	mov	w1, w1
	msr	esr_el1, x1
	mov	x1, x21
	.irp	n, 2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30
	ldr	x\n, =0x0101010101010101 * \n
	eor	x\n, x\n, x1, lsl #32
	.endr
	ldr	x0, =0x4141414141414140
	mov	sp, x0
	ldr	w0, =2000
1:	subs	w0, w0, #1			// most of the time the VM is stopped here, or
	b.ne	1b
	wfi					// here: a timer wakes it, masked or not

	guest_area x0, x1
	stp	x2, x3, [x0, #(A_GENERAL + 16)]
	stp	x4, x5, [x0, #(A_GENERAL + 32)]
	stp	x6, x7, [x0, #(A_GENERAL + 48)]
	stp	x8, x9, [x0, #(A_GENERAL + 64)]
	stp	x10, x11, [x0, #(A_GENERAL + 80)]
	stp	x12, x13, [x0, #(A_GENERAL + 96)]
	stp	x14, x15, [x0, #(A_GENERAL + 112)]
	stp	x16, x17, [x0, #(A_GENERAL + 128)]
	stp	x18, x19, [x0, #(A_GENERAL + 144)]
	stp	x20, x21, [x0, #(A_GENERAL + 160)]
	stp	x22, x23, [x0, #(A_GENERAL + 176)]
	stp	x24, x25, [x0, #(A_GENERAL + 192)]
	stp	x26, x27, [x0, #(A_GENERAL + 208)]
	stp	x28, x29, [x0, #(A_GENERAL + 224)]
	mov	x2, sp
	stp	x30, x2, [x0, #(A_GENERAL + 240)]
	mov	x20, x0
	mrs	x1, spsr_el1
	mrs	x2, elr_el1
	stp	x1, x2, [x20, #A_FOUND_SPSR]
	mrs	x1, esr_el1
	mrs	x2, far_el1
	stp	x1, x2, [x20, #A_FOUND_ESR]
	add	sp, x20, #A_STACK
	mrs	x21, mpidr_el1
	ubfx	x1, x21, #8, #8
	and	x21, x21, #0xff
	add	x21, x21, x1, lsl #4
	msr	daifclr, #2			// the timers' interrupts come in
	isb

	bl	guest_compare_general
	bl	guest_compare_table
	bl	guest_compare_vectors
	bl	guest_compare_memory
	bl	guest_compare_clocks

	ldr	x1, [x20, #A_ROUNDS]
	add	x1, x1, #1
	str	x1, [x20, #A_ROUNDS]
	tst	x1, #7
	b.ne	2f
	ldr	x2, =GUEST_REPORT
	ldr	x3, [x20, #A_TICKS_V]
	str	x3, [x2, #R_TICKS_V]
	ldr	x3, [x20, #A_TICKS_P]
	str	x3, [x2, #R_TICKS_P]
	str	x1, [x2, #R_ROUNDS]
2:	b	guest_round

	.ltorg


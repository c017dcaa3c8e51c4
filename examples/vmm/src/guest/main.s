// The guest: EL1, MMU off, GICv3, 1 to 60 vCPUs. Each vCPU writes a value of its own to every register that it may write,
// and to some memory, and from then on goes round after round:
//
//   1. with interrupts masked it fills the general registers, SP and what exceptions change (ELR_EL1, SPSR_EL1, ESR_EL1,
//      FAR_EL1), waits a while and in WFI, and looks whether all of them are still as they were;
//   2. it lets interrupts in: each of the two timers, CNTV and CNTP, is set again and counted;
//   3. it compares all other registers, the vectors and a page of memory, rewrites another page, looks at the clocks, and
//      tells the VMM how far it is.
//
// It is position independent: the VMM copies it from `cpreg_guest_start` to `cpreg_guest_end` to any place in the guest's
// memory. In: x0 the number of vCPUs, x1 the address of their areas, 1 MiB each, all zero; x2 1 if CNTP is to be left alone. The
// addresses of devices are those of `gic.rs` and `report.rs`.
//
// Conventions: x20 is this vCPU's area, x21 its number; x16 and x17 belong to the handler of exceptions, x25 and up to the loop.

	.equ	GUEST_REPORT, 0x09000000
	.equ	GUEST_GICD, 0x08000000
	.equ	GUEST_GICR, 0x080a0000

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

	// Reports: where to write what, in `report.rs`.
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

	// out = in mixed with x21, as xorshift* does: a value that no other vCPU or register has.
	.macro	guest_mix value, scratch
	eor	\value, \value, x21, lsl #32
	ldr	\scratch, =0x9e3779b97f4a7c15
	add	\value, \value, #1
	mul	\value, \value, \scratch
	eor	\value, \value, \value, lsr #29
	mul	\value, \value, \scratch
	.endm

	// Says that the thing of this name is not what it should be, and stops.
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

// ---------------------------------------------------------------------------------------------------------------------
guest_round:
	msr	daifset, #0xf
	// What exceptions change. SPSR_EL1 with bits that every vCPU has.
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

// ---------------------------------------------------------------------------------------------------------------------
// General registers, and what exceptions change

guest_compare_general:
	mov	x1, #2
	add	x2, x20, #A_GENERAL
	ldr	x3, =0x0101010101010101
1:	mul	x4, x3, x1
	eor	x4, x4, x21, lsl #32
	ldr	x5, [x2, x1, lsl #3]
	cmp	x4, x5
	b.eq	2f
	adr	x3, guest_text_general		// "x00" ... of four bytes each
	add	x3, x3, x1, lsl #2
	mov	x6, #V_BROKEN
	b	guest_say_and_stop
2:	add	x1, x1, #1
	cmp	x1, #31
	b.ne	1b
	ldr	x4, =0x4141414141414140
	ldr	x5, [x2, x1, lsl #3]
	cmp	x4, x5
	b.eq	3f
	guest_broken guest_text_sp, x4, x5
3:	ldr	x4, =0x60000345
	ldr	x5, [x20, #A_FOUND_SPSR]
	cmp	x4, x5
	b.eq	4f
	guest_broken guest_text_spsr, x4, x5
4:	mov	x4, #0x11
	guest_mix x4, x6
	ldr	x5, [x20, #A_FOUND_ELR]
	cmp	x4, x5
	b.eq	5f
	guest_broken guest_text_elr, x4, x5
5:	mov	x4, #0x12
	guest_mix x4, x6
	ldr	x5, [x20, #A_FOUND_FAR]
	cmp	x4, x5
	b.eq	6f
	guest_broken guest_text_far, x4, x5
6:	mov	x4, #0x13
	guest_mix x4, x6
	mov	w4, w4
	ldr	x5, [x20, #A_FOUND_ESR]
	cmp	x4, x5
	b.eq	7f
	guest_broken guest_text_esr, x4, x5
7:	ret

// ---------------------------------------------------------------------------------------------------------------------
// The table of registers

// Reads the register of the entry x24. Out: x0 its value, x1 1 if it is undefined. Changes x2.
guest_read_entry:
	str	x30, [sp, #-16]!
	str	xzr, [x20, #A_UNDEF]
	mov	x0, #0
	add	x2, x24, #16
	blr	x2
	ldr	x1, [x20, #A_UNDEF]
	cmp	x1, #0
	csel	x0, x0, xzr, eq
	ldr	x30, [sp], #16
	ret

guest_write_table:
	str	x30, [sp, #-16]!
	adr	x24, guest_table
	adr	x25, guest_table_end
	add	x26, x20, #A_EXPECTED
1:	ldr	x0, [x24, #32]
	cbz	x0, 2f				// only looked at
	sub	x0, x24, x25
	guest_mix x0, x1
	ldp	x1, x2, [x24]
	and	x0, x0, x1
	orr	x0, x0, x2
	add	x2, x24, #24
	blr	x2
	isb
2:	bl	guest_read_entry
	stp	x0, x1, [x26], #16
	add	x24, x24, #64
	cmp	x24, x25
	b.ne	1b
	ldr	x30, [sp], #16
	ret

guest_compare_table:
	str	x30, [sp, #-16]!
	adr	x24, guest_table
	adr	x25, guest_table_end
	add	x26, x20, #A_EXPECTED
1:	ldp	x4, x5, [x26]
	cbnz	x5, 3f				// was undefined, and is not asked for again: kernels log that
	bl	guest_read_entry
	ldp	x4, x5, [x26]
	cmp	x5, x1
	ccmp	x4, x0, #0, eq
	b.eq	3f
	stp	x0, x1, [x26]			// from now on this is expected
	mov	x7, x1
	mov	x1, x0
	cmp	x7, #0				// an undefined one is said to be all ones
	csinv	x5, x1, xzr, eq
	eor	x7, x4, x5
	ldr	x6, [x24, #32]
	tst	x6, x7
	mov	x6, #V_BROKEN
	mov	x7, #V_NOTICED
	csel	x6, x6, x7, ne
	add	x3, x24, #40
	cmp	x6, #V_BROKEN
	b.eq	guest_say_and_stop
	bl	guest_say
3:	add	x26, x26, #16
	add	x24, x24, #64
	cmp	x24, x25
	b.ne	1b
	ldr	x30, [sp], #16
	ret

// ---------------------------------------------------------------------------------------------------------------------
// Vectors: v0 ... v31, with SVE z0 ... z31, p0 ... p15, FFR

	.arch_extension sve

guest_write_vectors:
	str	xzr, [x20, #A_VECTOR_LENGTH]
	mrs	x0, id_aa64pfr0_el1
	ubfx	x0, x0, #32, #4
	cbz	x0, 1f
	rdvl	x0, #1
	str	x0, [x20, #A_VECTOR_LENGTH]
1:	mov	x1, #0				// a pattern over all there could be
	mov	x2, #A_VECTORS
	add	x2, x20, x2
2:	mov	x3, x1
	guest_mix x3, x4
	str	x3, [x2, x1, lsl #3]
	add	x1, x1, #1
	cmp	x1, #((A_PREDICATES + 17 * 32 + 7) / 8)
	b.lo	2b
	ldr	x0, [x20, #A_VECTOR_LENGTH]
	cbnz	x0, 3f
	.irp	n, 0,2,4,6,8,10,12,14,16,18,20,22,24,26,28
	ldr	q\n, [x2, #(16 * \n)]
	.endr
	.irp	n, 1,3,5,7,9,11,13,15,17,19,21,23,25,27,29,30,31
	ldr	q\n, [x2, #(16 * \n)]
	.endr
	ret
3:	.irp	n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
	ldr	z\n, [x2, #\n, mul vl]
	.endr
	add	x2, x2, #A_PREDICATES
	// FFR has ones from its lowest bit on and then zeros: as many as the first half of a vector.
	lsr	x1, x0, #1
	whilelo	p0.b, xzr, x1
	wrffr	p0.b
	str	p0, [x2, #16, mul vl]
	.irp	n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
	ldr	p\n, [x2, #\n, mul vl]
	.endr
	ret

guest_compare_vectors:
	mov	x2, #A_VECTORS_FOUND
	add	x2, x20, x2
	mov	x3, #A_VECTORS
	add	x3, x20, x3
	ldr	x0, [x20, #A_VECTOR_LENGTH]
	cbnz	x0, 1f
	.irp	n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
	str	q\n, [x2, #(16 * \n)]
	.endr
	mov	x7, #(32 * 16)
	b	guest_compare_bytes
1:	rdvl	x1, #1
	cmp	x0, x1
	b.eq	2f
	guest_broken guest_text_length, x0, x1
2:	.irp	n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
	str	z\n, [x2, #\n, mul vl]
	.endr
	lsl	x7, x0, #5
	str	x30, [sp, #-16]!
	bl	guest_compare_bytes
	ldr	x30, [sp], #16
	mov	x2, #(A_VECTORS_FOUND + A_PREDICATES)
	add	x2, x20, x2
	mov	x3, #(A_VECTORS + A_PREDICATES)
	add	x3, x20, x3
	.irp	n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
	str	p\n, [x2, #\n, mul vl]
	.endr
	rdffr	p0.b
	str	p0, [x2, #16, mul vl]
	ldr	p0, [x3]
	rdvl	x7, #1				// 17 predicates of an eighth of a vector, in whole doublewords
	mov	x0, #17
	mul	x7, x7, x0
	lsr	x7, x7, #3
	and	x7, x7, #~7

// Compares x7 bytes at x2, as found, with those at x3.
guest_compare_bytes:
	add	x7, x2, x7
1:	ldr	x5, [x2], #8
	ldr	x4, [x3], #8
	cmp	x4, x5
	b.eq	2f
	guest_broken guest_text_vectors, x4, x5
2:	cmp	x2, x7
	b.lo	1b
	ret

// ---------------------------------------------------------------------------------------------------------------------
// Memory

// Fills the page x2 with what belongs to the stamp x3. Changes x3, x4, x5.
guest_fill_page:
	add	x5, x2, #4096
	ldr	x4, =0x9e3779b97f4a7c15
1:	str	x3, [x2], #8
	add	x3, x3, x4
	cmp	x2, x5
	b.ne	1b
	ret

// Compares it.
guest_compare_page:
	add	x7, x2, #4096
	ldr	x6, =0x9e3779b97f4a7c15
	mov	x4, x3
1:	ldr	x5, [x2], #8
	cmp	x4, x5
	b.eq	2f
	guest_broken guest_text_memory, x4, x5
2:	add	x4, x4, x6
	cmp	x2, x7
	b.ne	1b
	ret

guest_write_memory:
	str	x30, [sp, #-16]!
	mov	x23, #0
	mov	x2, #A_STILL
	add	x2, x20, x2
1:	add	x3, x23, #1
	guest_mix x3, x4
	bl	guest_fill_page
	add	x23, x23, #1
	cmp	x23, #STILL_PAGES
	b.ne	1b
	mov	x23, #0
	mov	x2, #A_MOVING
	add	x2, x20, x2
	mov	x8, #A_STAMPS
	add	x8, x20, x8
2:	add	x3, x23, #0x1000
	guest_mix x3, x4
	str	x3, [x8, x23, lsl #3]
	bl	guest_fill_page
	add	x23, x23, #1
	cmp	x23, #MOVING_PAGES
	b.ne	2b
	ldr	x30, [sp], #16
	ret

// In each round one page of either kind; of the moving ones the page is then rewritten.
guest_compare_memory:
	str	x30, [sp, #-16]!
	ldr	x23, [x20, #A_ROUNDS]
	and	x1, x23, #(STILL_PAGES - 1)
	mov	x2, #A_STILL
	add	x2, x20, x2
	add	x2, x2, x1, lsl #12
	add	x3, x1, #1
	guest_mix x3, x4
	bl	guest_compare_page
	and	x1, x23, #(MOVING_PAGES - 1)
	mov	x8, #A_STAMPS
	add	x8, x20, x8
	add	x8, x8, x1, lsl #3
	mov	x2, #A_MOVING
	add	x2, x20, x2
	add	x9, x2, x1, lsl #12
	mov	x2, x9
	ldr	x3, [x8]
	bl	guest_compare_page
	add	x3, x23, #0x2000
	guest_mix x3, x4
	str	x3, [x8]
	mov	x2, x9
	bl	guest_fill_page
	ldr	x30, [sp], #16
	ret

	.ltorg

// ---------------------------------------------------------------------------------------------------------------------
// Timers and clocks

guest_start_timers:
	mrs	x0, cntfrq_el0
	mov	x1, #50				// 50 interrupts a second from each timer
	udiv	x2, x0, x1
	str	x2, [x20, #A_INTERVAL]
	mov	x1, #5				// silent for five seconds is dead
	mul	x1, x0, x1
	str	x1, [x20, #A_LATEST]
	isb
	mrs	x0, cntvct_el0
	str	x0, [x20, #A_VIRTUAL]
	str	x0, [x20, #A_LAST_V]
	str	x0, [x20, #A_LAST_P]
	add	x0, x0, x2
	msr	cntv_cval_el0, x0
	mrs	x0, cntpct_el0
	str	x0, [x20, #A_PHYSICAL]
	add	x0, x0, x2
	msr	cntp_cval_el0, x0
	mov	x0, #1
	msr	cntv_ctl_el0, x0
	adr	x1, guest_without_cntp
	ldr	x1, [x1]
	cbnz	x1, 1f
	msr	cntp_ctl_el0, x0
1:	isb
	ret

guest_compare_clocks:
	str	x30, [sp, #-16]!
	isb
	mrs	x0, cntvct_el0
	ldr	x1, [x20, #A_VIRTUAL]
	str	x0, [x20, #A_VIRTUAL]
	cmp	x0, x1
	b.hs	1f
	guest_broken guest_text_virtual, x1, x0
	// A kernel that keeps no offset of it shows its own: the guest then sets the timer anew, as kernels do at the next occasion.
1:	mrs	x5, cntpct_el0
	ldr	x4, [x20, #A_PHYSICAL]
	str	x5, [x20, #A_PHYSICAL]
	cmp	x5, x4
	b.hs	2f
	ldr	x2, [x20, #A_INTERVAL]
	add	x2, x5, x2
	msr	cntp_cval_el0, x2
	isb
	adr	x3, guest_text_physical
	mov	x6, #V_NOTICED
	bl	guest_say
2:	ldr	x2, [x20, #A_LATEST]
	mrs	x0, cntvct_el0
	ldr	x1, [x20, #A_LAST_V]
	sub	x3, x0, x1
	cmp	x3, x2
	b.lo	3f
	guest_broken guest_text_cntv, x1, x0
3:	adr	x0, guest_without_cntp
	ldr	x0, [x0]
	cbnz	x0, 4f
	mrs	x0, cntvct_el0
	ldr	x1, [x20, #A_LAST_P]
	sub	x3, x0, x1
	cmp	x3, x2
	b.lo	4f
	guest_broken guest_text_cntp, x1, x0
4:	ldr	x30, [sp], #16
	ret

// ---------------------------------------------------------------------------------------------------------------------
// Interrupts and other exceptions

guest_init_distributor:
	ldr	x1, =GUEST_GICD
	mov	w0, #0x10			// GICD_CTLR: affinity routing first
	str	w0, [x1]
	mov	w0, #0x12			// then group 1
	str	w0, [x1]
	ret

guest_init_interface:
	ldr	x1, =GUEST_GICR
	mov	x0, #0x20000
	madd	x1, x21, x0, x1
	str	wzr, [x1, #0x14]		// GICR_WAKER: awake
1:	ldr	w0, [x1, #0x14]
	tbnz	w0, #2, 1b
	add	x1, x1, #0x10000		// the frame of SGIs and PPIs
	mov	w0, #-1
	str	w0, [x1, #0x80]			// GICR_IGROUPR0: all of group 1
	ldr	w0, =((1 << GUEST_CNTV) | (1 << GUEST_CNTP))
	str	w0, [x1, #0x100]		// GICR_ISENABLER0
	mov	x0, #7
	msr	S3_0_C12_C12_5, x0		// ICC_SRE_EL1
	isb
	mov	x0, #0xf0
	msr	S3_0_C4_C6_0, x0		// ICC_PMR_EL1
	mov	x0, #1
	msr	S3_0_C12_C12_7, x0		// ICC_IGRPEN1_EL1
	isb
	ret

guest_interrupt:
	stp	x0, x1, [sp, #-32]!
	stp	x2, x3, [sp, #16]
	mrs	x0, S3_0_C12_C12_0		// ICC_IAR1_EL1
	dsb	sy
	ldr	x2, [x20, #A_INTERVAL]
	cmp	x0, #GUEST_CNTV
	b.ne	1f
	mrs	x1, cntvct_el0
	str	x1, [x20, #A_LAST_V]
	add	x1, x1, x2
	msr	cntv_cval_el0, x1
	ldr	x1, [x20, #A_TICKS_V]
	add	x1, x1, #1
	str	x1, [x20, #A_TICKS_V]
	b	2f
1:	cmp	x0, #GUEST_CNTP
	b.ne	3f
	mrs	x1, cntvct_el0
	str	x1, [x20, #A_LAST_P]
	mrs	x1, cntpct_el0
	add	x1, x1, x2
	msr	cntp_cval_el0, x1
	ldr	x1, [x20, #A_TICKS_P]
	add	x1, x1, #1
	str	x1, [x20, #A_TICKS_P]
2:	isb
	msr	S3_0_C12_C12_1, x0		// ICC_EOIR1_EL1
	isb
3:	ldp	x2, x3, [sp, #16]
	ldp	x0, x1, [sp], #32
	eret

// An undefined instruction is skipped and noted; anything else should not be.
guest_synchronous:
	mrs	x16, esr_el1
	lsr	x16, x16, #26
	cbnz	x16, guest_panic
	guest_area x16, x17
	mov	x17, #1
	str	x17, [x16, #A_UNDEF]
	mrs	x16, elr_el1
	add	x16, x16, #4
	msr	elr_el1, x16
	eret

guest_panic:
	mrs	x4, esr_el1
	mrs	x5, elr_el1
	adr	x3, guest_text_exception
	mov	x6, #V_PANIC
	// on to guest_say_and_stop

// Says that what is called x3 should be x4 and is x5, with the verdict x6, and stops.
guest_say_and_stop:
	msr	daifset, #0xf
	bl	guest_say
1:	wfi
	b	1b

guest_say:
	ldr	x7, =GUEST_REPORT
	str	x3, [x7, #R_NAME]
	str	x4, [x7, #R_EXPECTED]
	str	x5, [x7, #R_FOUND]
	str	x6, [x7, #R_VERDICT]
	ret

	.ltorg

	.balign	2048
guest_vectors:
	.irp	n, 0,1,2,3
	.balign	128
	b	guest_panic
	.endr
	.balign	128
	b	guest_synchronous
	.balign	128
	b	guest_interrupt
	.irp	n, 6,7,8,9,10,11,12,13,14,15
	.balign	128
	b	guest_panic
	.endr

	.balign	8
guest_areas:
	.quad	0
guest_without_cntp:
	.quad	0
guest_text_general:
	.irp	n, 00,01,02,03,04,05,06,07,08,09,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30
	.asciz	"x\n"
	.endr
guest_text_sp:
	.asciz	"SP_EL1"
guest_text_spsr:
	.asciz	"SPSR_EL1"
guest_text_elr:
	.asciz	"ELR_EL1"
guest_text_far:
	.asciz	"FAR_EL1"
guest_text_esr:
	.asciz	"ESR_EL1"
guest_text_length:
	.asciz	"the length of vectors"
guest_text_vectors:
	.asciz	"a vector register"
guest_text_memory:
	.asciz	"memory"
guest_text_virtual:
	.asciz	"CNTVCT_EL0 went back"
guest_text_physical:
	.asciz	"CNTPCT_EL0 went back"
guest_text_cntv:
	.asciz	"the timer CNTV is silent"
guest_text_cntp:
	.asciz	"the timer CNTP is silent"
guest_text_psci:
	.asciz	"PSCI CPU_ON"
guest_text_exception:
	.asciz	"exception"

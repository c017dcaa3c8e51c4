// A guest for QEMU's virt machine that knows the expected value of every register of its vCPUs, and
// reports differences.
//
// 64-bit: EL1, MMU off, GICv2 or GICv3, 1 to 8 vCPUs. Its steps, and its output on the UART:
//
//   1. Every vCPU writes a distinct value to every register of `registers64.s` that it has, reads
//      all of them back as the expected values, arms both timers, fills its general, vector and
//      predicate registers, and sleeps.
//          READY <vcpus> GICv<version>
//   2. vCPU 0 waits for a byte on the UART, while the machine is saved and loaded elsewhere.
//      If that byte is an L, the register values follow.
//          VALUE <vcpu> <register> <expected>
//   3. Every vCPU reads everything again.
//          DIFF <vcpu> <register> <expected> <found>     hexadecimal, or UNDEF if undefined
//          EXPIRED <vcpu> V|P                            the timer had fired before the byte arrived
//   4. Every vCPU waits for its two timer interrupts, through the GIC.
//          TIMER <vcpu> V|P                              the timer fired
//          NOTIMER <vcpu> V|P                            it had not fired when a second byte arrived
//   5. DONE <number of DIFF lines>
//      An unexpected exception: PANIC <vcpu> <ESR> <ELR>.
//
// Assembled with LIVE=1 it is the guest of live migrations. A vCPU does not sleep. It increments a
// counter in each page of its own 8 MiB in turn, so that its RAM changes all the time. When the
// byte arrives it finishes its round. All its pages then hold the same count, unless one of them is
// outdated. Its timers are set an hour ahead, are compared as registers are, and are not waited
// for.
//          COUNT <vcpu> <count>
//
// Only vCPU 0 writes to the UART, so lines never mix. Entered by QEMU's own boot stub as a raw
// image at 0x40080000.
//
// Conventions: x20 this vCPU's area, x21 its number; x16 and x17 belong to the exception handler.

	.arch	armv8-a
	.arch_extension sve

	.equ	UART, 0x09000000
	.equ	UART_FR, 0x18			// bit 4: nothing received; bit 5: no room to send
	.equ	GICD, 0x08000000
	.equ	GICC, 0x08010000
	.equ	GICR, 0x080a0000
	.equ	GICR_STRIDE, 0x20000
	.equ	GICR_SGI, 0x10000

	.equ	INTID_WAKE, 1			// the SGI that wakes the others
	.equ	INTID_CNTV, 27
	.equ	INTID_CNTP, 30
	.equ	INTID_UART, 33
	.equ	VCPUS_MAX, 8
	.ifdef	LIVE
	.equ	TIMER_SECONDS, 3600
	.endif
	.ifndef	TIMER_SECONDS			// --defsym TIMER_SECONDS=15 for a machine that is busy
	.equ	TIMER_SECONDS, 3
	.endif

	// RAM beyond the image: one area for each vCPU, then a pattern.
	.equ	AREAS, 0x40200000
	.equ	AREA_SIZE, 0x20000
	.equ	PATTERN, 0x40400000
	.equ	PATTERN_COUNT, 4096		// doublewords

	// RAM that changes while the machine is moved, for each of at most four vCPUs.
	.equ	COUNTED, 0x41000000
	.equ	COUNTED_SHIFT, 23		// 8 MiB
	.equ	COUNTED_MASK, 0x7fffff
	.equ	PAGE, 0x1000

	// An area. Arrays have an element for each register of the table.
	.equ	A_STATE, 0x000			// how far this vCPU is: one of S_...
	.equ	A_PHASE, 0x008			// how far vCPU 0 lets it go
	.equ	A_GIVE_UP, 0x010		// vCPU 0 says that the timers will not come
	.equ	A_TIMERS, 0x018			// which timers came: bit 0 CNTV, bit 1 CNTP
	.equ	A_EXPIRED, 0x020		// which had fired before the byte came
	.equ	A_COUNTERS, 0x028		// CNTVCT, CNTPCT before; CNTVCT, CNTPCT after
	.equ	A_VECTOR_LENGTH, 0x048		// bytes in a vector before, and after
	.equ	A_EXPECTED, 0x1000
	.equ	A_EXPECTED_UNDEF, 0x2000	// 1: the instruction is undefined
	.equ	A_FOUND, 0x3000
	.equ	A_FOUND_UNDEF, 0x4000
	.equ	A_GENERAL, 0x5000		// x0 ... x30, sp as found
	.equ	A_VECTORS, 0x6000		// 32 vectors as written
	.equ	A_VECTORS_FOUND, 0x8000
	.equ	A_PREDICATES, 0xa000		// 16 predicates and FFR as written
	.equ	A_PREDICATES_FOUND, 0xa400
	.equ	A_STACK, 0x1fff0

	.equ	S_WROTE, 1			// registers are written, it waits for the byte
	.equ	S_READ, 2			// registers are read again
	.equ	S_TIMED, 3			// done with its timers

	.include "registers64.s"

	.text
	.globl	_start
_start:						// the other vCPUs come in here, too
	mrs	x21, mpidr_el1
	and	x21, x21, #0xff
	mov	x0, #AREA_SIZE
	ldr	x20, =AREAS
	madd	x20, x21, x0, x20
	ldr	x0, =A_STACK
	add	sp, x20, x0
	adr	x0, vectors
	msr	vbar_el1, x0
	mov	x0, #(3 << 20)			// FP and SIMD, for a start
	msr	cpacr_el1, x0
	isb
	cbnz	x21, 1f
	bl	gic_init_distributor
	bl	uart_init
	bl	fill_pattern
	bl	start_others			// x22 = number of vCPUs from here on
1:	bl	gic_init_cpu
	bl	write_registers
	bl	arm_timers
	bl	write_vectors
	cbnz	x21, 2f
	mov	x0, #S_WROTE
	bl	await_others
	bl	say_ready
2:	bl	write_fragile
	mov	x0, #S_WROTE
	str	x0, [x20, #A_STATE]
	b	sleep

// -------------------------------------------------------------------------------------------------
// The long sleep, in which the machine is moved. From here to `awake` only x0 and x1 may be used,
// no exception may be taken, and x2 ... x30 and sp hold known values.
sleep:
	mov	x1, x20
	mov	x0, x21
	.irp	n, 2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30
	ldr	x\n, =0x0101010101010101 * \n
	eor	x\n, x\n, x0, lsl #32
	.endr
	.ifdef	LIVE
counting:
	mrs	x0, mpidr_el1
	and	x0, x0, #0xff
	ldr	x1, =COUNTED
	add	x1, x1, x0, lsl #COUNTED_SHIFT
1:	ldr	x0, [x1]
	add	x0, x0, #1
	str	x0, [x1]
	add	x1, x1, #PAGE
	tst	x1, #COUNTED_MASK
	b.ne	1b
	mrs	x0, mpidr_el1
	and	x0, x0, #0xff
	cbz	x0, 2f
	ldr	x1, =AREAS
	add	x1, x1, x0, lsl #17		// AREA_SIZE
	ldr	w0, [x1, #A_PHASE]
	cbnz	w0, awake
	b	counting
2:	mov	x1, #UART
	ldr	w0, [x1, #UART_FR]
	tbz	w0, #4, awake
	b	counting
	.endif

	cbnz	x0, 2f
1:	mov	x1, #UART			// vCPU 0: until a byte is there
	ldr	w0, [x1, #UART_FR]
	tbz	w0, #4, awake
	wfi
	b	1b
2:	ldr	w0, [x1, #A_PHASE]		// the others: until vCPU 0 lets them go on
	cbnz	w0, awake
	wfi
	b	2b

awake:
	mrs	x0, mpidr_el1			// not changed by anything, and needed to find the area
	and	x0, x0, #0xff
	ldr	x1, =AREAS
	add	x1, x1, x0, lsl #17		// AREA_SIZE
	add	x1, x1, #(A_GENERAL & ~0xfff)
	stp	x2, x3, [x1, #16]
	stp	x4, x5, [x1, #32]
	stp	x6, x7, [x1, #48]
	stp	x8, x9, [x1, #64]
	stp	x10, x11, [x1, #80]
	stp	x12, x13, [x1, #96]
	stp	x14, x15, [x1, #112]
	stp	x16, x17, [x1, #128]
	stp	x18, x19, [x1, #144]
	stp	x20, x21, [x1, #160]
	stp	x22, x23, [x1, #176]
	stp	x24, x25, [x1, #192]
	stp	x26, x27, [x1, #208]
	stp	x28, x29, [x1, #224]
	mov	x2, sp
	stp	x30, x2, [x1, #240]
	sub	x20, x1, #(A_GENERAL & ~0xfff)
	mov	x21, x0
	ldr	x0, =A_STACK
	add	sp, x20, x0
	bl	read_fragile			// these do not survive the first exception
	bl	read_timers
	bl	read_vectors
	cbnz	x21, 1f
	bl	wake_others
1:	bl	read_registers
	mov	x0, #S_READ
	str	x0, [x20, #A_STATE]
	cbnz	x21, 2f
	ldr	x22, vcpus
	ldr	w0, =UART
	ldr	w1, [x0]			// takes the byte, and the interrupt with it
	mov	w23, w1
	mov	x0, #S_READ
	bl	await_others
	cmp	w23, #'L'
	b.ne	11f
	bl	report_values
11:	mov	x23, #0				// differences so far
	bl	report_differences
	.ifdef	LIVE
	bl	report_counts
	b	21f
2:	b	3f
	.else
2:	bl	await_timers
	mov	x0, #S_TIMED
	str	x0, [x20, #A_STATE]
	cbnz	x21, 3f
	mov	x0, #S_TIMED
	bl	await_others
	bl	report_timers
	.endif
21:	adr	x0, text_done
	bl	put_text
	mov	x0, x23
	bl	put_decimal
	bl	put_newline
3:	wfi
	b	3b

	.ltorg

// -------------------------------------------------------------------------------------------------
// Several vCPUs

// Starts the others by PSCI. Returns the number of vCPUs in x22.
start_others:
	mov	x22, #1
1:	ldr	w0, =0xc4000003			// CPU_ON
	mov	x1, x22				// MPIDR: up to eight are all of one cluster
	adr	x2, _start
	mov	x3, #0
	hvc	#0
	cbnz	x0, 2f				// there is no such vCPU
	add	x22, x22, #1
	cmp	x22, #VCPUS_MAX
	b.lt	1b
2:	adr	x0, vcpus
	str	x22, [x0]
	ret

// Waits until all others have reached state x0.
await_others:
	mov	x1, #1
1:	cmp	x1, x22
	b.ge	3f
	ldr	x2, =AREAS
	add	x2, x2, x1, lsl #17
2:	ldr	x3, [x2, #A_STATE]
	cmp	x3, x0
	yield
	b.lt	2b
	add	x1, x1, #1
	b	1b
3:	dmb	sy
	ret

// Wakes all others.
wake_others:
	ldr	x22, vcpus
	mov	x1, #1
1:	cmp	x1, x22
	b.ge	2f
	ldr	x2, =AREAS
	add	x2, x2, x1, lsl #17
	mov	x3, #1
	str	x3, [x2, #A_PHASE]
	add	x1, x1, #1
	b	1b
2:	dsb	sy
	b	gic_wake_others

	.ltorg

// -------------------------------------------------------------------------------------------------
// The registers of the table

	.equ	R_NAME, 0
	.equ	R_READ, 8
	.equ	R_WRITE, 16
	.equ	R_MASK, 24
	.equ	R_FIXED, 32
	.equ	R_SIZE, 40

// Returns the value for register number x9: unique to register and vCPU where the mask has ones,
// fixed elsewhere.
// In: x10 entry. Out: x0. Uses x1, x2.
value_for:
	add	x1, x9, #1
	ldr	x2, =0x9e3779b97f4a7c15
	mul	x0, x1, x2
	add	x1, x21, #1
	ldr	x2, =0xd1342543de82ef95
	mul	x1, x1, x2
	eor	x0, x0, x1
	ldr	x1, [x10, #R_MASK]
	and	x0, x0, x1
	ldr	x1, [x10, #R_FIXED]
	orr	x0, x0, x1
	ret

// Writes all writable registers, then reads all back as the expected values.
write_registers:
	stp	x29, x30, [sp, #-16]!
	mov	x9, #0
	ldr	x10, =table
1:	ldr	x3, [x10, #R_WRITE]
	cbz	x3, 2f
	bl	value_for
	blr	x3				// undefined ones are skipped by the exception handler
	isb
2:	add	x9, x9, #1
	add	x10, x10, #R_SIZE
	ldr	x0, =table_end
	cmp	x10, x0
	b.lt	1b
	add	x11, x20, #A_EXPECTED
	b	read_all

// Reads all registers again.
read_registers:
	stp	x29, x30, [sp, #-16]!
	add	x11, x20, #A_FOUND
read_all:
	add	x12, x11, #0x1000		// ..._UNDEF
	ldr	x10, =table
1:	ldr	x3, [x10, #R_READ]
	mov	x0, #0
	mov	x16, #0
	blr	x3
	str	x0, [x11], #8
	str	x16, [x12], #8
	add	x10, x10, #R_SIZE
	ldr	x0, =table_end
	cmp	x10, x0
	b.lt	1b
	ldp	x29, x30, [sp], #16
	ret

// Registers that taking an exception changes: written last, read first, after the others in the
// arrays.
write_fragile:
	ldr	x1, =0x1122334455667788
	eor	x1, x1, x21, lsl #56
	msr	far_el1, x1
	mov	w2, #0x5600			// any exception class: nobody looks at it
	movk	w2, #0x9200, lsl #16
	orr	x2, x2, x21
	msr	esr_el1, x2
	ldr	x3, =0x00000000deadbee0
	add	x3, x3, x21, lsl #12
	msr	elr_el1, x3
	ldr	x4, =0x600003c5
	msr	spsr_el1, x4
	ldr	x0, =(A_EXPECTED + 8 * REGISTERS)
	add	x0, x20, x0
	stp	x1, x2, [x0]
	stp	x3, x4, [x0, #16]
	ret
read_fragile:
	ldr	x0, =(A_FOUND + 8 * REGISTERS)
	add	x0, x20, x0
	mrs	x1, far_el1
	mrs	x2, esr_el1
	mrs	x3, elr_el1
	mrs	x4, spsr_el1
	stp	x1, x2, [x0]
	stp	x3, x4, [x0, #16]
	ret

	.ltorg

// -------------------------------------------------------------------------------------------------
// Timers

arm_timers:
	mrs	x0, cntfrq_el0
	mov	x1, #TIMER_SECONDS
	mul	x1, x0, x1
	mrs	x2, cntvct_el0
	str	x2, [x20, #A_COUNTERS]
	add	x2, x2, x1
	msr	cntv_cval_el0, x2
	add	x1, x1, x0, lsr #2		// the physical one a quarter of a second later
	mrs	x3, cntpct_el0
	str	x3, [x20, #A_COUNTERS + 8]
	add	x3, x3, x1
	msr	cntp_cval_el0, x3
	mov	x0, #1
	msr	cntv_ctl_el0, x0
	msr	cntp_ctl_el0, x0
	isb
	ldr	x0, =(A_EXPECTED + 8 * REGISTERS + 32)
	add	x0, x20, x0
	stp	x2, x3, [x0]
	mov	x2, #1
	stp	x2, x2, [x0, #16]
	ret

read_timers:
	ldr	x0, =(A_FOUND + 8 * REGISTERS + 32)
	add	x0, x20, x0
	mrs	x1, cntv_cval_el0
	mrs	x2, cntp_cval_el0
	stp	x1, x2, [x0]
	mrs	x1, cntv_ctl_el0
	mrs	x2, cntp_ctl_el0
	and	x3, x1, #3			// ISTATUS is told apart, as EXPIRED
	and	x4, x2, #3
	stp	x3, x4, [x0, #16]
	ubfx	x1, x1, #2, #1
	ubfx	x2, x2, #2, #1
	orr	x1, x1, x2, lsl #1
	str	x1, [x20, #A_EXPIRED]
	mrs	x1, cntvct_el0
	mrs	x2, cntpct_el0
	str	x1, [x20, #A_COUNTERS + 16]
	str	x2, [x20, #A_COUNTERS + 24]
	ret

// Waits for both timer interrupts, or until vCPU 0 is told not to wait for them.
await_timers:
	stp	x29, x30, [sp, #-16]!
	mov	x19, #0
1:	bl	gic_acknowledge			// x0 = INTID
	cmp	x0, #INTID_CNTV
	b.eq	2f
	cmp	x0, #INTID_CNTP
	b.eq	3f
	cmp	x0, #1019
	b.gt	5f				// nothing pending
	cmp	x0, #INTID_UART
	b.eq	4f
	bl	gic_end				// the wake-up call
	b	6f
2:	msr	cntv_ctl_el0, xzr
	orr	x19, x19, #1
	isb
	bl	gic_end
	b	6f
3:	msr	cntp_ctl_el0, xzr
	orr	x19, x19, #2
	isb
	bl	gic_end
	b	6f
4:	ldr	x1, =UART			// a byte: the second one
	ldr	w2, [x1, #UART_FR]
	tbnz	w2, #4, 41f			// or the first, taken already
	ldr	w2, [x1]
	mov	x2, #1
	ldr	x3, =AREAS
	mov	x4, #VCPUS_MAX
40:	str	x2, [x3, #A_GIVE_UP]
	add	x3, x3, #AREA_SIZE
	subs	x4, x4, #1
	b.ne	40b
	dsb	sy
	bl	gic_end
	bl	gic_wake_others
	b	6f
41:	bl	gic_end
	b	6f
5:	wfi
6:	str	x19, [x20, #A_TIMERS]
	cmp	x19, #3
	b.eq	7f
	ldr	x0, [x20, #A_GIVE_UP]
	cbz	x0, 1b
7:	ldp	x29, x30, [sp], #16
	ret

	.ltorg

// -------------------------------------------------------------------------------------------------
// Vectors and predicates: with SVE their whole length (64 bytes, see ZCR_EL1 in the table), else 16
// bytes and no predicates

has_sve:					// out: flags, ne if there is SVE
	mrs	x0, id_aa64pfr0_el1
	ubfx	x0, x0, #32, #4
	cmp	x0, #0
	ret

write_vectors:
	stp	x29, x30, [sp, #-16]!
	add	x1, x20, #A_VECTORS
	mov	x2, #0
	ldr	x3, =0xbf58476d1ce4e5b9
1:	add	x4, x2, #1
	mul	x4, x4, x3
	eor	x4, x4, x21, lsl #60
	str	x4, [x1, x2, lsl #3]
	add	x2, x2, #1
	cmp	x2, #(32 * 8)
	b.lt	1b
	add	x5, x20, #A_PREDICATES
	mov	x2, #0
2:	ldr	x4, [x1, x2, lsl #3]
	cmp	x2, #16
	b.ne	21f
	mov	x4, #0x00ffffff			// FFR: ones, then zeros
21:	str	x4, [x5, x2, lsl #3]
	add	x2, x2, #1
	cmp	x2, #17
	b.lt	2b
	mov	x4, #16
	str	x4, [x20, #A_VECTOR_LENGTH]
	bl	has_sve
	b.ne	3f
	.irp	n, 0,2,4,6,8,10,12,14,16,18,20,22,24,26,28,30
	ldr	q\n, [x1, #(16 * \n)]
	.endr
	.irp	n, 1,3,5,7,9,11,13,15,17,19,21,23,25,27,29,31
	ldr	q\n, [x1, #(16 * \n)]
	.endr
	b	4f
3:	rdvl	x4, #1
	str	x4, [x20, #A_VECTOR_LENGTH]
	.irp	n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
	ldr	z\n, [x1, #\n, mul vl]
	.endr
	ldr	p0, [x5, #16, mul vl]
	wrffr	p0.b
	.irp	n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
	ldr	p\n, [x5, #\n, mul vl]
	.endr
4:	ldp	x29, x30, [sp], #16
	ret

read_vectors:
	stp	x29, x30, [sp, #-16]!
	add	x1, x20, #A_VECTORS_FOUND
	mov	x4, #16
	str	x4, [x20, #A_VECTOR_LENGTH + 8]
	bl	has_sve
	b.ne	1f
	.irp	n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
	str	q\n, [x1, #(16 * \n)]
	.endr
	b	2f
1:	rdvl	x4, #1
	str	x4, [x20, #A_VECTOR_LENGTH + 8]
	cmp	x4, #64				// longer ones would not fit
	b.gt	2f
	.irp	n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
	str	z\n, [x1, #\n, mul vl]
	.endr
	add	x5, x20, #A_PREDICATES
	add	x5, x5, #(A_PREDICATES_FOUND - A_PREDICATES)
	.irp	n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
	str	p\n, [x5, #\n, mul vl]
	.endr
	rdffr	p0.b
	str	p0, [x5, #16, mul vl]
2:	ldp	x29, x30, [sp], #16
	ret

	.ltorg

// -------------------------------------------------------------------------------------------------
// RAM

fill_pattern:
	ldr	x0, =PATTERN
	ldr	x1, =0x9e3779b97f4a7c15
	mov	x2, #0
1:	mul	x3, x2, x1
	str	x3, [x0, x2, lsl #3]
	add	x2, x2, #1
	cmp	x2, #PATTERN_COUNT
	b.lt	1b
	ret

	.include "gic64.s"
	.include "report64.s"

// -------------------------------------------------------------------------------------------------
// Exceptions: an undefined or trapped instruction sets x16 and is skipped. Any other exception ends
// the guest.

	.balign	2048
vectors:
	.rept	4
	b	panic
	.balign	128
	.endr
	mrs	x17, esr_el1			// synchronous, from EL1 with SP_EL1
	lsr	x17, x17, #26
	cmp	x17, #0x00			// undefined
	b.eq	1f
	cmp	x17, #0x18			// MSR, MRS
	b.eq	1f
	cmp	x17, #0x19			// SVE
	b.eq	1f
	cmp	x17, #0x1d			// SME
	b.ne	panic
1:	mrs	x17, elr_el1
	add	x17, x17, #4
	msr	elr_el1, x17
	mov	x16, #1
	eret
	.balign	128
	.rept	11
	b	panic
	.balign	128
	.endr

panic:
	adr	x0, text_panic
	bl	put_text
	mrs	x0, mpidr_el1
	and	x0, x0, #0xff
	bl	put_decimal
	bl	put_space
	mrs	x0, esr_el1
	bl	put_hex
	bl	put_space
	mrs	x0, elr_el1
	bl	put_hex
	bl	put_newline
1:	wfi
	b	1b

	.balign	8
vcpus:	.quad	0

	.ltorg

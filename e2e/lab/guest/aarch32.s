// The 32-bit counterpart of aarch64.s: a guest for QEMU's virt machine with a Cortex-A15 that knows
// the expected value of every register of its vCPUs, and reports differences. aarch64.s describes
// its steps and output. It runs in SVC mode. Its registers are those of coprocessors 14 and 15, the
// banked ones of the other modes, and VFP's.
//
// Entered by QEMU's own boot stub as a raw image at 0x40010000.
//
// Conventions: r10 this vCPU's area, r11 its number; r12 belongs to the handler of undefined
// instructions.
// Values are 64 bits: the low half in the lower-numbered register.

	.arch	armv7-a
	.arch_extension virt			// HVC
	.arch_extension idiv			// UDIV
	.fpu	neon-vfpv4
	.syntax	unified
	.arm

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
	.ifndef	TIMER_SECONDS			// --defsym TIMER_SECONDS=15 for a machine that is busy
	.equ	TIMER_SECONDS, 3
	.endif

	// RAM beyond the image: one area for each vCPU, then a pattern.
	.equ	AREAS, 0x40200000
	.equ	AREA_SHIFT, 17
	.equ	AREA_SIZE, 1 << AREA_SHIFT
	.equ	PATTERN, 0x40400000
	.equ	PATTERN_COUNT, 8192		// words

	// An area. Arrays have a doubleword for each register of the table.
	.equ	A_STATE, 0x000			// how far this vCPU is: one of S_...
	.equ	A_PHASE, 0x004			// how far vCPU 0 lets it go
	.equ	A_GIVE_UP, 0x008		// vCPU 0 says that the timers will not come
	.equ	A_TIMERS, 0x00c			// which timers came: bit 0 CNTV, bit 1 CNTP
	.equ	A_EXPIRED, 0x010		// which had fired before the byte came
	.equ	A_COUNTERS, 0x020		// CNTVCT, CNTPCT before; CNTVCT, CNTPCT after
	.equ	A_GENERAL, 0x100		// r0 ... r12, sp, lr as found
	.equ	A_EXPECTED, 0x1000
	.equ	A_EXPECTED_UNDEF, 0x2000	// 1: the instruction is undefined
	.equ	A_FOUND, 0x3000
	.equ	A_FOUND_UNDEF, 0x4000
	.equ	A_VECTORS, 0x5000		// d0 ... d31 as written
	.equ	A_VECTORS_FOUND, 0x5100
	.equ	A_STACK, 0x1fff0

	.equ	MODE_FIQ, 0x11
	.equ	MODE_IRQ, 0x12
	.equ	MODE_SVC, 0x13
	.equ	MODE_ABT, 0x17
	.equ	MODE_UND, 0x1b
	.equ	MODE_SYS, 0x1f

	.equ	S_WROTE, 1			// registers are written, it waits for the byte
	.equ	S_READ, 2			// registers are read again
	.equ	S_TIMED, 3			// done with its timers

	.include "registers32.s"

	.text
	.globl	_start
_start:						// the other vCPUs come in here, too
	mrc	p15, 0, r11, c0, c0, 5		// MPIDR
	and	r11, r11, #0xff
	ldr	r10, =AREAS
	add	r10, r10, r11, lsl #AREA_SHIFT
	ldr	r0, =A_STACK
	add	sp, r10, r0
	ldr	r0, =vectors
	mcr	p15, 0, r0, c12, c0, 0		// VBAR
	ldr	r0, =0x00f00000			// CPACR: VFP and NEON
	mcr	p15, 0, r0, c1, c0, 2
	isb
	mov	r0, #0x40000000			// FPEXC.EN
	vmsr	fpexc, r0
	cmp	r11, #0
	bne	1f
	bl	gic_init_distributor
	bl	uart_init
	bl	fill_pattern
	bl	start_others
1:	bl	gic_init_cpu
	bl	write_registers
	bl	arm_timers
	bl	write_vectors
	cmp	r11, #0
	bne	2f
	mov	r0, #S_WROTE
	bl	await_others
	bl	say_ready
2:	bl	write_fragile
	mov	r0, #S_WROTE
	str	r0, [r10, #A_STATE]
	b	sleep

// -------------------------------------------------------------------------------------------------
// The long sleep, in which the machine is moved. From here to `awake` only r0 and r1 may be used,
// no exception may be taken, and r2 ... r12 and lr hold known values.
sleep:
	mov	r1, r10
	mov	r0, r11
	.irp	n, 2,3,4,5,6,7,8,9,10,11,12,14
	ldr	r\n, =0x01010101 * \n
	eor	r\n, r\n, r0, lsl #28
	.endr
	cmp	r0, #0
	bne	2f
1:	mov	r1, #UART			// vCPU 0: until a byte is there
	ldr	r0, [r1, #UART_FR]
	tst	r0, #(1 << 4)
	beq	awake
	wfi
	b	1b
2:	ldr	r0, [r1, #A_PHASE]		// the others: until vCPU 0 lets them go on
	cmp	r0, #0
	bne	awake
	wfi
	b	2b

awake:
	mrc	p15, 0, r0, c0, c0, 5		// not changed by anything, and needed to find the area
	and	r0, r0, #0xff
	ldr	r1, =AREAS
	add	r1, r1, r0, lsl #AREA_SHIFT
	add	r1, r1, #(A_GENERAL + 8)
	stmia	r1, {r2-r12}
	str	sp, [r1, #44]
	str	lr, [r1, #48]
	sub	r10, r1, #(A_GENERAL + 8)
	mov	r11, r0
	ldr	r0, =A_STACK
	add	sp, r10, r0
	bl	read_fragile			// these do not survive the first exception
	bl	read_timers
	bl	read_vectors
	cmp	r11, #0
	bleq	wake_others
	bl	read_registers
	mov	r0, #S_READ
	str	r0, [r10, #A_STATE]
	cmp	r11, #0
	bne	2f
	ldr	r0, =UART
	ldr	r4, [r0]			// takes the byte, and the interrupt with it
	mov	r0, #S_READ
	bl	await_others
	cmp	r4, #'L'
	bleq	report_values
	bl	report_differences
2:	bl	await_timers
	mov	r0, #S_TIMED
	str	r0, [r10, #A_STATE]
	cmp	r11, #0
	bne	3f
	mov	r0, #S_TIMED
	bl	await_others
	bl	report_timers
	ldr	r0, =text_done
	bl	put_text
	ldr	r0, =differences
	ldr	r0, [r0]
	bl	put_decimal
	bl	put_newline
3:	wfi
	b	3b

	.ltorg

// -------------------------------------------------------------------------------------------------
// Several vCPUs

// Starts the others by PSCI, and records their number.
start_others:
	mov	r4, #1
1:	ldr	r0, =0x84000003			// CPU_ON
	mov	r1, r4				// MPIDR: up to eight are all of one cluster
	ldr	r2, =_start
	mov	r3, #0
	hvc	#0
	cmp	r0, #0
	bne	2f				// there is no such vCPU
	add	r4, r4, #1
	cmp	r4, #VCPUS_MAX
	blt	1b
2:	ldr	r0, =vcpus
	str	r4, [r0]
	bx	lr

// Waits until all others have reached state r0. Uses r1 ... r3, r5.
await_others:
	ldr	r5, =vcpus
	ldr	r5, [r5]
	mov	r1, #1
1:	cmp	r1, r5
	bge	3f
	ldr	r2, =AREAS
	add	r2, r2, r1, lsl #AREA_SHIFT
2:	ldr	r3, [r2, #A_STATE]
	cmp	r3, r0
	yield
	blt	2b
	add	r1, r1, #1
	b	1b
3:	dmb
	bx	lr

// Wakes all others.
wake_others:
	ldr	r5, =vcpus
	ldr	r5, [r5]
	mov	r1, #1
1:	cmp	r1, r5
	bge	2f
	ldr	r2, =AREAS
	add	r2, r2, r1, lsl #AREA_SHIFT
	mov	r3, #1
	str	r3, [r2, #A_PHASE]
	add	r1, r1, #1
	b	1b
2:	dsb
	b	gic_wake_others

	.ltorg

// -------------------------------------------------------------------------------------------------
// The registers of the table

	.equ	R_NAME, 0
	.equ	R_READ, 4
	.equ	R_WRITE, 8
	.equ	R_MASK, 16
	.equ	R_FIXED, 24
	.equ	R_SIZE, 32

// Returns the value for register number r8: unique to register and vCPU where the mask has ones,
// fixed elsewhere.
// In: r9 entry. Out: r0, r1. Uses r2, r3.
value_for:
	ldr	r2, =0x9e3779b9
	add	r3, r8, #1
	mul	r0, r3, r2
	ldr	r2, =0xd1342543
	add	r3, r11, #1
	mul	r1, r3, r2
	eor	r0, r0, r1
	ldr	r2, =0x85ebca6b
	mul	r1, r0, r2
	ldrd	r2, r3, [r9, #R_MASK]
	and	r0, r0, r2
	and	r1, r1, r3
	ldrd	r2, r3, [r9, #R_FIXED]
	orr	r0, r0, r2
	orr	r1, r1, r3
	bx	lr

// Writes all writable registers, then reads all back as the expected values.
write_registers:
	push	{r4, lr}
	mov	r8, #0
	ldr	r9, =table
1:	ldr	r4, [r9, #R_WRITE]
	cmp	r4, #0
	beq	2f
	bl	value_for
	blx	r4				// undefined ones are skipped by the handler
	isb
2:	add	r8, r8, #1
	add	r9, r9, #R_SIZE
	ldr	r0, =table_end
	cmp	r9, r0
	blt	1b
	add	r6, r10, #A_EXPECTED
	b	read_all

// Reads all registers again.
read_registers:
	push	{r4, lr}
	add	r6, r10, #A_FOUND
read_all:
	add	r7, r6, #0x1000			// ..._UNDEF
	ldr	r9, =table
1:	ldr	r4, [r9, #R_READ]
	mov	r0, #0
	mov	r1, #0
	mov	r12, #0
	blx	r4
	strd	r0, r1, [r6], #8
	str	r12, [r7], #8
	add	r9, r9, #R_SIZE
	ldr	r0, =table_end
	cmp	r9, r0
	blt	1b
	pop	{r4, pc}

// Registers that an undefined instruction changes: written last, read first, after the others in
// the arrays.
write_fragile:
	ldr	r2, =0x0badf00d
	eor	r2, r2, r11, lsl #28
	mov	r3, #0
	ldr	r4, =0x600001d3
	mov	r5, #0
	cps	#MODE_UND
	mov	lr, r2
	msr	spsr_cxsf, r4
	cps	#MODE_SVC
	ldr	r0, =(A_EXPECTED + 8 * REGISTERS)
	add	r0, r10, r0
	stmia	r0, {r2-r5}
	bx	lr
read_fragile:
	mov	r3, #0
	mov	r5, #0
	cps	#MODE_UND
	mov	r2, lr
	mrs	r4, spsr
	cps	#MODE_SVC
	ldr	r0, =(A_FOUND + 8 * REGISTERS)
	add	r0, r10, r0
	stmia	r0, {r2-r5}
	bx	lr

	.ltorg

// -------------------------------------------------------------------------------------------------
// Timers

arm_timers:
	push	{r4-r9, lr}
	mrc	p15, 0, r0, c14, c0, 0		// CNTFRQ
	mov	r1, #TIMER_SECONDS
	mul	r1, r0, r1
	mrrc	p15, 1, r2, r3, c14		// CNTVCT
	strd	r2, r3, [r10, #A_COUNTERS]
	adds	r4, r2, r1
	adc	r5, r3, #0
	mcrr	p15, 3, r4, r5, c14		// CNTV_CVAL
	add	r1, r1, r0, lsr #2		// the physical one a quarter of a second later
	mrrc	p15, 0, r2, r3, c14		// CNTPCT
	strd	r2, r3, [r10, #(A_COUNTERS + 8)]
	adds	r6, r2, r1
	adc	r7, r3, #0
	mcrr	p15, 2, r6, r7, c14		// CNTP_CVAL
	mov	r8, #1
	mov	r9, #0
	mcr	p15, 0, r8, c14, c3, 1		// CNTV_CTL
	mcr	p15, 0, r8, c14, c2, 1		// CNTP_CTL
	isb
	ldr	r0, =(A_EXPECTED + 8 * REGISTERS + 16)
	add	r0, r10, r0
	stmia	r0!, {r4-r9}
	stmia	r0, {r8-r9}
	pop	{r4-r9, pc}

read_timers:
	push	{r4-r9, lr}
	mrrc	p15, 3, r4, r5, c14
	mrrc	p15, 2, r6, r7, c14
	mov	r9, #0
	mrc	p15, 0, r1, c14, c3, 1
	mrc	p15, 0, r2, c14, c2, 1
	and	r8, r1, #3			// ISTATUS is told apart, as EXPIRED
	ldr	r0, =(A_FOUND + 8 * REGISTERS + 16)
	add	r0, r10, r0
	stmia	r0!, {r4-r9}
	and	r8, r2, #3
	stmia	r0, {r8-r9}
	ubfx	r1, r1, #2, #1
	ubfx	r2, r2, #2, #1
	orr	r1, r1, r2, lsl #1
	str	r1, [r10, #A_EXPIRED]
	mrrc	p15, 1, r2, r3, c14
	strd	r2, r3, [r10, #(A_COUNTERS + 16)]
	mrrc	p15, 0, r2, r3, c14
	strd	r2, r3, [r10, #(A_COUNTERS + 24)]
	pop	{r4-r9, pc}

// Waits for both timer interrupts, or until vCPU 0 is told not to wait for them.
await_timers:
	push	{r4, lr}
	mov	r8, #0
	mov	r9, #0
1:	bl	gic_acknowledge			// r0 = INTID
	cmp	r0, #INTID_CNTV
	beq	2f
	cmp	r0, #INTID_CNTP
	beq	3f
	ldr	r1, =1019
	cmp	r0, r1
	bgt	5f				// nothing pending
	cmp	r0, #INTID_UART
	beq	4f
	bl	gic_end				// the wake-up call
	b	6f
2:	mcr	p15, 0, r9, c14, c3, 1
	orr	r8, r8, #1
	isb
	bl	gic_end
	b	6f
3:	mcr	p15, 0, r9, c14, c2, 1
	orr	r8, r8, #2
	isb
	bl	gic_end
	b	6f
4:	ldr	r1, =UART			// a byte: the second one
	ldr	r2, [r1, #UART_FR]
	tst	r2, #(1 << 4)			// or the first, taken already
	bne	41f
	ldr	r2, [r1]
	mov	r2, #1
	ldr	r3, =AREAS
	mov	r4, #VCPUS_MAX
40:	str	r2, [r3, #A_GIVE_UP]
	add	r3, r3, #AREA_SIZE
	subs	r4, r4, #1
	bne	40b
	dsb
	bl	gic_end
	bl	gic_wake_others
	b	6f
41:	bl	gic_end
	b	6f
5:	wfi
6:	str	r8, [r10, #A_TIMERS]
	cmp	r8, #3
	beq	7f
	ldr	r0, [r10, #A_GIVE_UP]
	cmp	r0, #0
	beq	1b
7:	pop	{r4, pc}

	.ltorg

// -------------------------------------------------------------------------------------------------
// VFP's and NEON's registers, and RAM

write_vectors:
	add	r1, r10, #A_VECTORS
	mov	r2, #0
	ldr	r3, =0xbf58476d
1:	add	r4, r2, #1
	mul	r4, r4, r3
	eor	r4, r4, r11, lsl #28
	str	r4, [r1, r2, lsl #2]
	add	r2, r2, #1
	cmp	r2, #64
	blt	1b
	vldmia	r1!, {d0-d15}
	vldmia	r1, {d16-d31}
	bx	lr

read_vectors:
	add	r1, r10, #A_VECTORS
	add	r1, r1, #(A_VECTORS_FOUND - A_VECTORS)
	vstmia	r1!, {d0-d15}
	vstmia	r1, {d16-d31}
	bx	lr

fill_pattern:
	ldr	r0, =PATTERN
	ldr	r1, =0x9e3779b9
	mov	r2, #0
1:	mul	r3, r2, r1
	str	r3, [r0, r2, lsl #2]
	add	r2, r2, #1
	cmp	r2, #PATTERN_COUNT
	blt	1b
	bx	lr

	.ltorg

	.include "gic32.s"
	.include "report32.s"

// -------------------------------------------------------------------------------------------------
// Exceptions: an undefined instruction sets r12 and is skipped. Any other exception ends the guest.

	.balign	32
vectors:
	b	panic				// reset
	b	undefined
	b	panic				// supervisor call
	b	panic				// prefetch abort
	b	panic				// data abort
	b	panic
	b	panic				// interrupts are masked
	b	panic
undefined:
	mov	r12, #1
	movs	pc, lr				// lr is behind the instruction already

// The mode's lr is the address of the exception; the mode identifies it.
panic:
	mov	r9, lr
	mrs	r8, cpsr
	cps	#MODE_SVC			// for this one's stack
	ldr	r0, =text_panic
	bl	put_text
	mrc	p15, 0, r0, c0, c0, 5
	and	r0, r0, #0xff
	bl	put_decimal
	bl	put_space
	mov	r0, r8
	mov	r1, #0
	bl	put_hex
	bl	put_space
	mov	r0, r9
	mov	r1, #0
	bl	put_hex
	bl	put_newline
1:	wfi
	b	1b

	.balign	4
vcpus:		.word	0
differences:	.word	0

	.ltorg

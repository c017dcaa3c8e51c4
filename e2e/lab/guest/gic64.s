// Interrupt controller of aarch64.s, GICv2 or GICv3, as ID_AA64PFR0_EL1.GIC reports. The CPU
// interface of GICv3 is system registers. All interrupts of the guest are enabled here, and only
// PSTATE.I masks them. It stays set, so an interrupt wakes WFI and is then acknowledged.

	// Flags: ne for GICv3. Uses x0.
	.macro	which_gic
	mrs	x0, id_aa64pfr0_el1
	ubfx	x0, x0, #24, #4
	cmp	x0, #0
	.endm

	.equ	ENABLED_PRIVATE, (1 << INTID_WAKE) | (1 << INTID_CNTV) | (1 << INTID_CNTP)

gic_init_distributor:
	ldr	x1, =GICD
	mov	w2, #(1 << (INTID_UART - 32))
	which_gic
	b.ne	1f
	mov	w3, #1				// GICD_ITARGETSR8: to vCPU 0
	strb	w3, [x1, #(0x800 + INTID_UART)]
	str	w2, [x1, #0x104]		// GICD_ISENABLER1
	mov	w3, #1
	str	w3, [x1]			// GICD_CTLR: group 0, the only one
	ret
1:	mov	w3, #0x10			// GICD_CTLR: affinity routing first
	str	w3, [x1]
	mov	w3, #0x13			// then both groups
	str	w3, [x1]
	str	w2, [x1, #0x84]			// GICD_IGROUPR1
	str	w2, [x1, #0x104]		// GICD_ISENABLER1
	mov	w3, #0x6000			// GICD_IROUTER: to vCPU 0
	add	x3, x3, #(8 * INTID_UART)
	str	xzr, [x1, x3]
	ret

gic_init_cpu:
	ldr	w2, =ENABLED_PRIVATE
	which_gic
	b.ne	1f
	ldr	x1, =GICD
	str	w2, [x1, #0x100]		// GICD_ISENABLER0, banked
	ldr	x1, =GICC
	mov	w2, #0xf0
	str	w2, [x1, #4]			// GICC_PMR
	mov	w2, #1
	str	w2, [x1]			// GICC_CTLR
	ret
1:	ldr	x1, =GICR
	mov	x3, #GICR_STRIDE
	madd	x1, x21, x3, x1
	str	wzr, [x1, #0x14]		// GICR_WAKER: awake
2:	ldr	w3, [x1, #0x14]
	tbnz	w3, #2, 2b
	add	x1, x1, #GICR_SGI
	mov	w3, #-1
	str	w3, [x1, #0x80]			// GICR_IGROUPR0: all group 1
	str	w2, [x1, #0x100]		// GICR_ISENABLER0
	mov	x3, #7
	msr	S3_0_C12_C12_5, x3		// ICC_SRE_EL1
	isb
	mov	x3, #0xf0
	msr	S3_0_C4_C6_0, x3		// ICC_PMR_EL1
	mov	x3, #1
	msr	S3_0_C12_C12_7, x3		// ICC_IGRPEN1_EL1
	isb
	ret

// Sends the wake-up SGI to all vCPUs but this one.
gic_wake_others:
	which_gic
	b.ne	1f
	ldr	x1, =GICD
	ldr	w2, =((1 << 24) | INTID_WAKE)	// GICD_SGIR: all but self
	str	w2, [x1, #0xf00]
	ret
1:	ldr	x2, =((1 << 40) | (INTID_WAKE << 24))
	msr	S3_0_C12_C11_5, x2		// ICC_SGI1R_EL1: all but self
	isb
	ret

// Acknowledges the most urgent interrupt. Out: x0 its INTID, above 1019 if there is none; x15 for
// gic_end.
gic_acknowledge:
	which_gic
	b.ne	1f
	ldr	x1, =GICC
	ldr	w15, [x1, #0xc]			// GICC_IAR
	and	x0, x15, #0x3ff
	ret
1:	mrs	x15, S3_0_C12_C12_0		// ICC_IAR1_EL1
	dsb	sy
	mov	x0, x15
	ret

// Ends the interrupt that gic_acknowledge returned.
gic_end:
	which_gic
	b.ne	1f
	ldr	x1, =GICC
	str	w15, [x1, #0x10]		// GICC_EOIR
	ret
1:	msr	S3_0_C12_C12_1, x15		// ICC_EOIR1_EL1
	isb
	ret

	.ltorg

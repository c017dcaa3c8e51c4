// Interrupt controller of aarch32.s, GICv2 or GICv3, as ID_PFR1.GIC reports. The CPU interface of
// GICv3 is system registers. All interrupts of the guest are enabled here, and only CPSR.I masks
// them. It stays set, so an interrupt wakes WFI and is then acknowledged.

	// Flags: ne for GICv3. Uses r0.
	.macro	which_gic
	mrc	p15, 0, r0, c0, c1, 1		// ID_PFR1
	lsrs	r0, r0, #28
	.endm

	.equ	ENABLED_PRIVATE, (1 << INTID_WAKE) | (1 << INTID_CNTV) | (1 << INTID_CNTP)

gic_init_distributor:
	ldr	r1, =GICD
	mov	r2, #(1 << (INTID_UART - 32))
	which_gic
	bne	1f
	mov	r3, #1				// GICD_ITARGETSR8: to vCPU 0
	add	r0, r1, #0x800
	strb	r3, [r0, #INTID_UART]
	str	r2, [r1, #0x104]		// GICD_ISENABLER1
	str	r3, [r1]			// GICD_CTLR: group 0, the only one
	bx	lr
1:	mov	r3, #0x10			// GICD_CTLR: affinity routing first
	str	r3, [r1]
	mov	r3, #0x13			// then both groups
	str	r3, [r1]
	str	r2, [r1, #0x84]			// GICD_IGROUPR1
	str	r2, [r1, #0x104]		// GICD_ISENABLER1
	ldr	r3, =(GICD + 0x6000 + 8 * INTID_UART)
	mov	r2, #0				// GICD_IROUTER: to vCPU 0
	str	r2, [r3]
	str	r2, [r3, #4]
	bx	lr

gic_init_cpu:
	ldr	r2, =ENABLED_PRIVATE
	which_gic
	bne	1f
	ldr	r1, =GICD
	str	r2, [r1, #0x100]		// GICD_ISENABLER0, banked
	ldr	r1, =GICC
	mov	r2, #0xf0
	str	r2, [r1, #4]			// GICC_PMR
	mov	r2, #1
	str	r2, [r1]			// GICC_CTLR
	bx	lr
1:	ldr	r1, =GICR
	mov	r3, #GICR_STRIDE
	mla	r1, r11, r3, r1
	mov	r3, #0				// GICR_WAKER: awake
	str	r3, [r1, #0x14]
2:	ldr	r3, [r1, #0x14]
	tst	r3, #4
	bne	2b
	add	r1, r1, #GICR_SGI
	mvn	r3, #0
	str	r3, [r1, #0x80]			// GICR_IGROUPR0: all group 1
	str	r2, [r1, #0x100]		// GICR_ISENABLER0
	mov	r3, #7
	mcr	p15, 0, r3, c12, c12, 5		// ICC_SRE
	isb
	mov	r3, #0xf0
	mcr	p15, 0, r3, c4, c6, 0		// ICC_PMR
	mov	r3, #1
	mcr	p15, 0, r3, c12, c12, 7		// ICC_IGRPEN1
	isb
	bx	lr

// Sends the wake-up SGI to all vCPUs but this one.
gic_wake_others:
	which_gic
	bne	1f
	ldr	r1, =GICD
	ldr	r2, =((1 << 24) | INTID_WAKE)	// GICD_SGIR: all but self
	str	r2, [r1, #0xf00]
	bx	lr
1:	ldr	r2, =(INTID_WAKE << 24)
	mov	r3, #(1 << 8)
	mcrr	p15, 0, r2, r3, c12		// ICC_SGI1R: all but self
	isb
	bx	lr

// Acknowledges the most urgent interrupt. Out: r0 its INTID, above 1019 if there is none; r7 for
// gic_end.
gic_acknowledge:
	which_gic
	bne	1f
	ldr	r1, =GICC
	ldr	r7, [r1, #0xc]			// GICC_IAR
	ubfx	r0, r7, #0, #10
	bx	lr
1:	mrc	p15, 0, r7, c12, c12, 0		// ICC_IAR1
	dsb
	mov	r0, r7
	bx	lr

// Ends the interrupt that gic_acknowledge returned.
gic_end:
	which_gic
	bne	1f
	ldr	r1, =GICC
	str	r7, [r1, #0x10]			// GICC_EOIR
	bx	lr
1:	mcr	p15, 0, r7, c12, c12, 1		// ICC_EOIR1
	isb
	bx	lr

	.ltorg

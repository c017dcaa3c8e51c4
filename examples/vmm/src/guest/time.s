// Clocks, timers and interrupts of the guest of main.s, other exceptions, and names for reports.

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
	// A kernel without an offset for it shows its own counter. The guest then sets the timer again, as
	// kernels do at the next occasion.
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
	ldr	x1, [x20, #A_LAST_V]		// first: an interrupt may come in between
	isb
	mrs	x0, cntvct_el0
	sub	x3, x0, x1
	cmp	x3, x2
	b.lo	3f
	guest_broken guest_text_cntv, x1, x0
3:	adr	x0, guest_without_cntp
	ldr	x0, [x0]
	cbnz	x0, 4f
	ldr	x1, [x20, #A_LAST_P]
	isb
	mrs	x0, cntvct_el0
	sub	x3, x0, x1
	cmp	x3, x2
	b.lo	4f
	guest_broken guest_text_cntp, x1, x0
4:	ldr	x30, [sp], #16
	ret

// -------------------------------------------------------------------------------------------------
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

// An undefined instruction is skipped and recorded. Any other exception is an error.
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
	// Continues in guest_say_and_stop.

// Reports that the item named x3 should be x4 and is x5, with the verdict x6, and stops.
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

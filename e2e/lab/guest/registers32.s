// Registers that aarch32.s writes and reads, one line each.
//
//   rw NAME, coproc, opc1, CRn, CRm, opc2, MASK, FIXED
//       where MASK has ones, the value is unique to the vCPU and the register; elsewhere it is FIXED
//   ro NAME, coproc, opc1, CRn, CRm, opc2                only read; must not change
//   rw64 NAME, coproc, opc1, CRm, MASK, FIXED            64 bits, by MCRR and MRRC
//   banked NAME, mode, register, MASK                    another mode's register
//   banked_spsr NAME, mode                               another mode's SPSR
//   vfp NAME, MASK, FIXED                                by VMSR and VMRS
//
// A register need not keep the written value. The value read back right afterwards is the expected
// one. A register that the vCPU does not have is UNDEF. The values have no effect while the MMU is
// off, counters are stopped and breakpoints disabled. Registers that an undefined instruction
// changes, and the timers, are at the end. Registers whose write is an action are left out.

	.set	REGISTERS, 0

	.macro	entry name, read, write, mask, fixed
	.pushsection .text.names, "ax"
9001:	.asciz	"\name"
	.popsection
	.pushsection .text.table, "ax"
	.word	9001b, \read, \write, 0
	.quad	\mask
	.word	\fixed, 0
	.popsection
	.endm

	// `.inst` accepts every encoding, also those unknown to the assembler. 0xee100010: MRC,
	// 0xee000010: MCR, of r0.
	.macro	rw name, cp, opc1, crn, crm, opc2, mask, fixed=0
	.pushsection .text.stubs, "ax"
	.balign	4
9002:	.inst	0xee100010 | (\opc1 << 21) | (\crn << 16) | (\cp << 8) | (\opc2 << 5) | \crm
	bx	lr
9003:	.inst	0xee000010 | (\opc1 << 21) | (\crn << 16) | (\cp << 8) | (\opc2 << 5) | \crm
	bx	lr
	.popsection
	entry	\name, 9002b, 9003b, \mask, \fixed
	.set	REGISTERS, REGISTERS + 1
	.endm

	.macro	ro name, cp, opc1, crn, crm, opc2
	.pushsection .text.stubs, "ax"
	.balign	4
9002:	.inst	0xee100010 | (\opc1 << 21) | (\crn << 16) | (\cp << 8) | (\opc2 << 5) | \crm
	bx	lr
	.popsection
	entry	\name, 9002b, 0, 0, 0
	.set	REGISTERS, REGISTERS + 1
	.endm

	// Read through one encoding, written through another.
	.macro	rw2 name, cp, opc1, crn, crm, opc2, write_crm, write_opc2, mask, fixed=0
	.pushsection .text.stubs, "ax"
	.balign	4
9002:	.inst	0xee100010 | (\opc1 << 21) | (\crn << 16) | (\cp << 8) | (\opc2 << 5) | \crm
	bx	lr
9003:	.inst	0xee000010 | (\opc1 << 21) | (\crn << 16) | (\cp << 8) | (\write_opc2 << 5) | \write_crm
	bx	lr
	.popsection
	entry	\name, 9002b, 9003b, \mask, \fixed
	.set	REGISTERS, REGISTERS + 1
	.endm

	// 0xec510000: MRRC, 0xec410000: MCRR, of r0 and r1.
	.macro	rw64 name, cp, opc1, crm, mask, fixed=0
	.pushsection .text.stubs, "ax"
	.balign	4
9002:	.inst	0xec510000 | (\cp << 8) | (\opc1 << 4) | \crm
	bx	lr
9003:	.inst	0xec410000 | (\cp << 8) | (\opc1 << 4) | \crm
	bx	lr
	.popsection
	entry	\name, 9002b, 9003b, \mask, \fixed
	.set	REGISTERS, REGISTERS + 1
	.endm

	// Up to r7 the other mode has the same registers, and interrupts stay masked.
	.macro	banked name, mode, register, mask
	.pushsection .text.stubs, "ax"
	.balign	4
9002:	cps	#\mode
	mov	r0, \register
	cps	#MODE_SVC
	bx	lr
9003:	cps	#\mode
	mov	\register, r0
	cps	#MODE_SVC
	bx	lr
	.popsection
	entry	\name, 9002b, 9003b, \mask, 0
	.set	REGISTERS, REGISTERS + 1
	.endm

	.macro	banked_spsr name, mode
	.pushsection .text.stubs, "ax"
	.balign	4
9002:	cps	#\mode
	mrs	r0, spsr
	cps	#MODE_SVC
	bx	lr
9003:	cps	#\mode
	msr	spsr_cxsf, r0
	cps	#MODE_SVC
	bx	lr
	.popsection
	entry	\name, 9002b, 9003b, 0xf0000000, 0x1d3
	.set	REGISTERS, REGISTERS + 1
	.endm

	.macro	vfp name, mask, fixed=0
	.pushsection .text.stubs, "ax"
	.balign	4
9002:	vmrs	r0, \name
	bx	lr
9003:	vmsr	\name, r0
	bx	lr
	.popsection
	entry	\name, 9002b, 9003b, \mask, \fixed
	.set	REGISTERS, REGISTERS + 1
	.endm

	.pushsection .text.table, "ax"
	.balign	8
table:
	.popsection

	// Control
	rw	SCTLR, 15, 0, 1, 0, 0, 0x1800, 0x00c50078	// MMU, caches and alignment checks off
	rw	ACTLR, 15, 0, 1, 0, 1, 0xffffffff
	rw	CPACR, 15, 0, 1, 0, 2, 0, 0x00f00000		// VFP and NEON: in use

	// Translation, all of it without effect while the MMU is off
	rw	TTBCR, 15, 0, 2, 0, 2, 0, 0x80070003		// EAE: the long descriptors, and with them 64-bit TTBRs
	rw64	TTBR0, 15, 0, 2, 0x00ff00ffffffffe0
	rw64	TTBR1, 15, 1, 2, 0x00ff00ffffffffe0
	rw	DACR, 15, 0, 3, 0, 0, 0xffffffff
	rw	DFSR, 15, 0, 5, 0, 0, 0xffffffff
	rw	IFSR, 15, 0, 5, 0, 1, 0xffffffff
	rw	ADFSR, 15, 0, 5, 1, 0, 0xffffffff
	rw	AIFSR, 15, 0, 5, 1, 1, 0xffffffff
	rw	DFAR, 15, 0, 6, 0, 0, 0xffffffff
	rw	IFAR, 15, 0, 6, 0, 2, 0xffffffff
	rw64	PAR, 15, 0, 7, 0xffffffffffffffff
	rw	MAIR0, 15, 0, 10, 2, 0, 0xffffffff		// PRRR without EAE
	rw	MAIR1, 15, 0, 10, 2, 1, 0xffffffff		// NMRR without EAE
	rw	AMAIR0, 15, 0, 10, 3, 0, 0xffffffff
	rw	AMAIR1, 15, 0, 10, 3, 1, 0xffffffff

	// Identification of threads
	rw	VBAR, 15, 0, 12, 0, 0, 0, vectors		// in use
	rw	FCSEIDR, 15, 0, 13, 0, 0, 0			// not zero would move addresses
	rw	CONTEXTIDR, 15, 0, 13, 0, 1, 0xffffffff
	rw	TPIDRURW, 15, 0, 13, 0, 2, 0xffffffff
	rw	TPIDRURO, 15, 0, 13, 0, 3, 0xffffffff
	rw	TPIDRPRW, 15, 0, 13, 0, 4, 0xffffffff
	rw	CNTKCTL, 15, 0, 14, 1, 0, 0x3fb

	// Registers of the other modes
	banked	SP_usr, MODE_SYS, sp, 0xffffffff
	banked	LR_usr, MODE_SYS, lr, 0xffffffff
	banked	SP_irq, MODE_IRQ, sp, 0xffffffff
	banked	LR_irq, MODE_IRQ, lr, 0xffffffff
	banked_spsr SPSR_irq, MODE_IRQ
	banked	SP_abt, MODE_ABT, sp, 0xffffffff
	banked	LR_abt, MODE_ABT, lr, 0xffffffff
	banked_spsr SPSR_abt, MODE_ABT
	banked	SP_und, MODE_UND, sp, 0xffffffff
	banked	R8_fiq, MODE_FIQ, r8, 0xffffffff
	banked	R9_fiq, MODE_FIQ, r9, 0xffffffff
	banked	R10_fiq, MODE_FIQ, r10, 0xffffffff
	banked	R11_fiq, MODE_FIQ, r11, 0xffffffff
	banked	R12_fiq, MODE_FIQ, r12, 0xffffffff
	banked	SP_fiq, MODE_FIQ, sp, 0xffffffff
	banked	LR_fiq, MODE_FIQ, lr, 0xffffffff
	banked_spsr SPSR_fiq, MODE_FIQ

	// Floating point
	vfp	FPEXC, 0, 0x40000000				// in use
	vfp	FPSCR, 0xf7c0009f
	vfp	FPSID, 0
	vfp	MVFR0, 0
	vfp	MVFR1, 0

	// Caches
	rw	CSSELR, 15, 2, 0, 0, 0, 0, 2			// level 2: what CCSIDR is about
	ro	CCSIDR, 15, 1, 0, 0, 0
	ro	CLIDR, 15, 1, 0, 0, 1
	ro	CTR, 15, 0, 0, 0, 1

	// Performance monitors: first PMCR, which stops the others and could reset them
	rw	PMCR, 15, 0, 9, 12, 0, 0x38
	rw	PMSELR, 15, 0, 9, 12, 5, 0, 3			// whose PMXEVTYPER and PMXEVCNTR are meant
	rw	PMXEVTYPER, 15, 0, 9, 13, 1, 0xf800001f
	rw	PMXEVCNTR, 15, 0, 9, 13, 2, 0xffffffff
	rw	PMCCFILTR, 15, 0, 14, 15, 7, 0xf8000000
	rw	PMCCNTR, 15, 0, 9, 13, 0, 0xffffffff
	rw	PMUSERENR, 15, 0, 9, 14, 0, 0xf
	rw	PMCNTENSET, 15, 0, 9, 12, 1, 0x8000003f
	rw	PMINTENSET, 15, 0, 9, 14, 1, 0x8000003f
	rw	PMOVSSET, 15, 0, 9, 14, 3, 0x8000003f
	ro	PMOVSR, 15, 0, 9, 12, 3
	ro	PMCEID0, 15, 0, 9, 12, 6
	ro	PMCEID1, 15, 0, 9, 12, 7
	.irp	n, 0,1,2,4,5
	rw	PMEVCNTR\n, 15, 0, 14, 8, \n, 0xffffffff
	rw	PMEVTYPER\n, 15, 0, 14, 12, \n, 0xf800001f
	.endr

	// Debug: break- and watchpoints disabled, OS lock open
	rw2	DBGOSLSR, 14, 0, 1, 1, 4, 0, 4, 0		// DBGOSLAR = 0
	rw	DBGOSDLR, 14, 0, 1, 3, 4, 0, 1
	rw	DBGPRCR, 14, 0, 1, 4, 4, 1
	rw	DBGDTRRXext, 14, 0, 0, 0, 2, 0xffffffff
	rw	DBGDTRTXext, 14, 0, 0, 3, 2, 0xffffffff
	rw	DBGDCCINT, 14, 0, 0, 2, 0, 0x60000000
	rw	DBGDSCRext, 14, 0, 0, 2, 2, 0, 0x1000
	rw	DBGOSECCR, 14, 0, 0, 6, 2, 0xffffffff
	rw	DBGWFAR, 14, 0, 0, 6, 0, 0xffffffff
	rw	DBGVCR, 14, 0, 0, 7, 0, 0x48			// abort vectors, with monitor debug off
	rw2	DBGCLAIMCLR, 14, 0, 7, 9, 6, 8, 6, 0xff		// DBGCLAIMSET
	.irp	n, 0,1,2,3,4,5
	rw	DBGBVR\n, 14, 0, 0, \n, 4, 0xfffffffc
	rw	DBGBCR\n, 14, 0, 0, \n, 5, 0x1e6
	.endr
	.irp	n, 0,1,2,3
	rw	DBGWVR\n, 14, 0, 0, \n, 6, 0xfffffffc
	rw	DBGWCR\n, 14, 0, 0, \n, 7, 0x1ffe
	.endr
	ro	DBGDIDR, 14, 0, 0, 0, 0
	ro	DBGDSCRint, 14, 0, 0, 1, 0
	ro	DBGDRAR, 14, 0, 1, 0, 0
	ro	DBGDSAR, 14, 0, 2, 0, 0
	ro	DBGAUTHSTATUS, 14, 0, 7, 14, 6
	ro	DBGDEVID, 14, 0, 7, 2, 7
	ro	DBGDEVID1, 14, 0, 7, 1, 7
	ro	DBGDEVID2, 14, 0, 7, 0, 7

	// ThumbEE and Jazelle
	rw	TEECR, 14, 6, 0, 0, 0, 1
	rw	TEEHBR, 14, 6, 1, 0, 0, 0xfffffffc
	rw	JIDR, 14, 7, 0, 0, 0, 0
	rw	JOSCR, 14, 7, 1, 0, 0, 0
	rw	JMCR, 14, 7, 2, 0, 0, 0

	// The interrupt controller, where it is registers (GICv3)
	rw	ICC_PMR, 15, 0, 4, 6, 0, 0, 0xf0		// in use
	rw	ICC_BPR1, 15, 0, 12, 12, 3, 0, 3
	rw	ICC_IGRPEN0, 15, 0, 12, 12, 6, 0, 1
	rw	ICC_IGRPEN1, 15, 0, 12, 12, 7, 0, 1		// in use
	ro	ICC_CTLR, 15, 0, 12, 12, 4
	ro	ICC_SRE, 15, 0, 12, 12, 5

	// Identity of the vCPU
	ro	MIDR, 15, 0, 0, 0, 0
	ro	TCMTR, 15, 0, 0, 0, 2
	ro	TLBTR, 15, 0, 0, 0, 3
	ro	MPIDR, 15, 0, 0, 0, 5
	ro	REVIDR, 15, 0, 0, 0, 6
	ro	AIDR, 15, 1, 0, 0, 7
	ro	CNTFRQ, 15, 0, 14, 0, 0
	ro	NSACR, 15, 0, 1, 1, 2
	ro	ID_PFR0, 15, 0, 0, 1, 0
	ro	ID_PFR1, 15, 0, 0, 1, 1
	ro	ID_DFR0, 15, 0, 0, 1, 2
	ro	ID_AFR0, 15, 0, 0, 1, 3
	ro	ID_MMFR0, 15, 0, 0, 1, 4
	ro	ID_MMFR1, 15, 0, 0, 1, 5
	ro	ID_MMFR2, 15, 0, 0, 1, 6
	ro	ID_MMFR3, 15, 0, 0, 1, 7
	ro	ID_ISAR0, 15, 0, 0, 2, 0
	ro	ID_ISAR1, 15, 0, 0, 2, 1
	ro	ID_ISAR2, 15, 0, 0, 2, 2
	ro	ID_ISAR3, 15, 0, 0, 2, 3
	ro	ID_ISAR4, 15, 0, 0, 2, 4
	ro	ID_ISAR5, 15, 0, 0, 2, 5
	ro	L2CTLR, 15, 1, 9, 0, 2
	ro	L2ECTLR, 15, 1, 9, 0, 3
	ro	CBAR, 15, 4, 15, 0, 0

	.pushsection .text.table, "ax"
table_end:
	.popsection
	// Handled by hand, in this order: registers that an undefined instruction changes, and the timers.
	.irp	name, LR_und, SPSR_und, CNTV_CVAL, CNTP_CVAL, CNTV_CTL, CNTP_CTL
	entry	\name, 0, 0, 0, 0
	.endr
	.equ	REGISTERS_ALL, REGISTERS + 6

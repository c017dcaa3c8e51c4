// Registers that aarch64.s writes and reads, one line each.
//
//   rw NAME, op0, op1, CRn, CRm, op2, MASK, FIXED
//       where MASK has ones, the value is unique to the vCPU and the register; elsewhere it is FIXED
//   ro NAME, op0, op1, CRn, CRm, op2                  only read; must not change
//
// A register need not keep the written value. The value read back right afterwards is the expected
// one. A register that the vCPU does not have is UNDEF. The values have no effect while the MMU is
// off, counters are stopped and breakpoints disabled. Names and encodings are the Arm
// architecture's. A register without a name is named by its encoding. Registers that taking an
// exception changes, and the timers, are at the end. Registers whose write is an action are left
// out (RMR_EL1, OSLAR_EL1 except for unlocking, cache and TLB maintenance, the interrupt
// controller's acknowledge and end).

	.set	REGISTERS, 0

	.macro	entry name, read, write, mask, fixed
	.pushsection .text.names, "ax"
9001:	.asciz	"\name"
	.popsection
	.pushsection .text.table, "ax"
	.quad	9001b, \read, \write, \mask, \fixed
	.popsection
	.endm

	// `.inst` accepts every encoding, also those unknown to the assembler.
	.macro	rw name, op0, op1, crn, crm, op2, mask, fixed=0
	.pushsection .text.stubs, "ax"
9002:	.inst	0xd5300000 | ((\op0 & 1) << 19) | (\op1 << 16) | (\crn << 12) | (\crm << 8) | (\op2 << 5)
	ret
9003:	.inst	0xd5100000 | ((\op0 & 1) << 19) | (\op1 << 16) | (\crn << 12) | (\crm << 8) | (\op2 << 5)
	ret
	.popsection
	entry	\name, 9002b, 9003b, \mask, \fixed
	.set	REGISTERS, REGISTERS + 1
	.endm

	.macro	ro name, op0, op1, crn, crm, op2
	.pushsection .text.stubs, "ax"
9002:	.inst	0xd5300000 | ((\op0 & 1) << 19) | (\op1 << 16) | (\crn << 12) | (\crm << 8) | (\op2 << 5)
	ret
	.popsection
	entry	\name, 9002b, 0, 0, 0
	.set	REGISTERS, REGISTERS + 1
	.endm

	// Read through one encoding, written through another.
	.macro	rw2 name, op0, op1, crn, crm, op2, write_crm, write_op2, mask, fixed=0
	.pushsection .text.stubs, "ax"
9002:	.inst	0xd5300000 | ((\op0 & 1) << 19) | (\op1 << 16) | (\crn << 12) | (\crm << 8) | (\op2 << 5)
	ret
9003:	.inst	0xd5100000 | ((\op0 & 1) << 19) | (\op1 << 16) | (\crn << 12) | (\write_crm << 8) | (\write_op2 << 5)
	ret
	.popsection
	entry	\name, 9002b, 9003b, \mask, \fixed
	.set	REGISTERS, REGISTERS + 1
	.endm

	.pushsection .text.table, "ax"
	.balign	8
table:
	.popsection

	// Control
	rw	SCTLR_EL1, 3, 0, 1, 0, 0, 0x0405d200, 0x00c00838                    	// MMU, caches and alignment checks off
	rw	ACTLR_EL1, 3, 0, 1, 0, 1, 0xffffffffffffffff
	rw	CPACR_EL1, 3, 0, 1, 0, 2, 0, 0x03330000                             	// FP, SVE and SME: needed for what follows
	rw	SCTLR2_EL1, 3, 0, 1, 0, 3, 0, 6
	rw	ZCR_EL1, 3, 0, 1, 2, 0, 0, 3                                        	// vectors of 64 bytes
	rw	SMCR_EL1, 3, 0, 1, 2, 6, 0, 1
	rw	SMPRI_EL1, 3, 0, 1, 2, 4, 0xf
	rw	RGSR_EL1, 3, 0, 1, 0, 5, 0xffff0f
	rw	GCR_EL1, 3, 0, 1, 0, 6, 0x1ffff
	rw	TFSR_EL1, 3, 0, 5, 6, 0, 3
	rw	TFSRE0_EL1, 3, 0, 5, 6, 1, 3

	// Translation, all of it without effect while the MMU is off
	rw	TTBR0_EL1, 3, 0, 2, 0, 0, 0xfffffffffffffffe
	rw	TTBR1_EL1, 3, 0, 2, 0, 1, 0xfffffffffffffffe
	rw	TCR_EL1, 3, 0, 2, 0, 2, 0x0000001fbf3f003f, 0x0000000000800080
	rw	TCR2_EL1, 3, 0, 2, 0, 3, 0xc01, 2
	rw	MAIR_EL1, 3, 0, 10, 2, 0, 0xffffffffffffffff
	rw	MAIR2_EL1, 3, 0, 10, 2, 1, 0xffffffffffffffff
	rw	AMAIR_EL1, 3, 0, 10, 3, 0, 0xffffffffffffffff
	rw	AMAIR2_EL1, 3, 0, 10, 3, 1, 0xffffffffffffffff
	rw	PIR_EL1, 3, 0, 10, 2, 3, 0xffffffffffffffff
	rw	PIRE0_EL1, 3, 0, 10, 2, 2, 0xffffffffffffffff
	rw	POR_EL1, 3, 0, 10, 2, 4, 0xffffffffffffffff
	rw	POR_EL0, 3, 3, 10, 2, 4, 0xffffffffffffffff
	rw	S2POR_EL1, 3, 0, 10, 2, 5, 0xffffffffffffffff
	rw	PAR_EL1, 3, 0, 7, 4, 0, 0xffffffffffffffff
	rw	AFSR0_EL1, 3, 0, 5, 1, 0, 0xffffffff
	rw	AFSR1_EL1, 3, 0, 5, 1, 1, 0xffffffff
	rw	LORSA_EL1, 3, 0, 10, 4, 0, 0xffffffff0000
	rw	LOREA_EL1, 3, 0, 10, 4, 1, 0xffffffff0000
	rw	LORN_EL1, 3, 0, 10, 4, 2, 0xff
	rw	LORC_EL1, 3, 0, 10, 4, 3, 0xfc

	// Identification of threads, pointers and keys
	rw	VBAR_EL1, 3, 0, 12, 0, 0, 0, vectors                                	// in use
	rw	CONTEXTIDR_EL1, 3, 0, 13, 0, 1, 0xffffffff
	rw	TPIDR_EL1, 3, 0, 13, 0, 4, 0xffffffffffffffff
	rw	TPIDR_EL0, 3, 3, 13, 0, 2, 0xffffffffffffffff
	rw	TPIDRRO_EL0, 3, 3, 13, 0, 3, 0xffffffffffffffff
	rw	TPIDR2_EL0, 3, 3, 13, 0, 5, 0xffffffffffffffff
	rw	SCXTNUM_EL1, 3, 0, 13, 0, 7, 0xffffffffffffffff
	rw	SCXTNUM_EL0, 3, 3, 13, 0, 7, 0xffffffffffffffff
	rw	SP_EL0, 3, 0, 4, 1, 0, 0xffffffffffffffff
	rw	APIAKEYLO_EL1, 3, 0, 2, 1, 0, 0xffffffffffffffff
	rw	APIAKEYHI_EL1, 3, 0, 2, 1, 1, 0xffffffffffffffff
	rw	APIBKEYLO_EL1, 3, 0, 2, 1, 2, 0xffffffffffffffff
	rw	APIBKEYHI_EL1, 3, 0, 2, 1, 3, 0xffffffffffffffff
	rw	APDAKEYLO_EL1, 3, 0, 2, 2, 0, 0xffffffffffffffff
	rw	APDAKEYHI_EL1, 3, 0, 2, 2, 1, 0xffffffffffffffff
	rw	APDBKEYLO_EL1, 3, 0, 2, 2, 2, 0xffffffffffffffff
	rw	APDBKEYHI_EL1, 3, 0, 2, 2, 3, 0xffffffffffffffff
	rw	APGAKEYLO_EL1, 3, 0, 2, 3, 0, 0xffffffffffffffff
	rw	APGAKEYHI_EL1, 3, 0, 2, 3, 1, 0xffffffffffffffff
	rw	GCSCR_EL1, 3, 0, 2, 5, 0, 0, 0x320                                  	// not enabled, nor the exception lock
	rw	GCSCRE0_EL1, 3, 0, 2, 5, 2, 0, 0x720                                	// not enabled
	rw	GCSPR_EL1, 3, 0, 2, 5, 1, 0xfffffffffff8
	rw	GCSPR_EL0, 3, 3, 2, 5, 1, 0xfffffffffff8

	// Parts of PSTATE, floating point
	rw	PAN, 3, 0, 4, 2, 3, 0, 1 << 22
	rw	UAO, 3, 0, 4, 2, 4, 0, 1 << 23
	rw	DIT, 3, 3, 4, 2, 5, 0, 1 << 24
	rw	SSBS, 3, 3, 4, 2, 6, 0, 1 << 12
	rw	TCO, 3, 3, 4, 2, 7, 0, 1 << 25
	rw	FPCR, 3, 3, 4, 4, 0, 0x07c00000
	rw	FPSR, 3, 3, 4, 4, 1, 0x0800009f
	rw	FPMR, 3, 3, 4, 4, 2, 0xff7fff

	// Errors, caches, timers
	rw	DISR_EL1, 3, 0, 12, 1, 1, 0x81ffffff
	rw	CSSELR_EL1, 3, 2, 0, 0, 0, 0, 2                                     	// level 2: what CCSIDR_EL1 is about
	ro	CCSIDR_EL1, 3, 1, 0, 0, 0
	rw	CNTKCTL_EL1, 3, 0, 14, 1, 0, 0x3fb

	// Performance monitors: first PMCR_EL0, which stops the others and could reset them
	rw	PMCR_EL0, 3, 3, 9, 12, 0, 0x78
	rw	PMCCFILTR_EL0, 3, 3, 14, 15, 7, 0xfc000000
	rw	PMCCNTR_EL0, 3, 3, 9, 13, 0, 0xffffffffffffffff
	rw	PMSELR_EL0, 3, 3, 9, 12, 5, 0, 3
	rw	PMUSERENR_EL0, 3, 3, 9, 14, 0, 0xf
	rw	PMCNTENSET_EL0, 3, 3, 9, 12, 1, 0x8000003f
	rw	PMINTENSET_EL1, 3, 0, 9, 14, 1, 0x8000003f
	rw	PMOVSSET_EL0, 3, 3, 9, 14, 3, 0x8000003f
	.irp	n, 0,1,2,3,4,5,6,7
	rw	PMEVCNTR\n\()_EL0, 3, 3, 14, 8, \n, 0xffffffff
	rw	PMEVTYPER\n\()_EL0, 3, 3, 14, 12, \n, 0xfc00001f
	.endr
	ro	PMMIR_EL1, 3, 0, 9, 14, 6
	ro	PMCEID0_EL0, 3, 3, 9, 12, 6
	ro	PMCEID1_EL0, 3, 3, 9, 12, 7

	// Debug: break- and watchpoints disabled, OS lock open
	rw2	OSLSR_EL1, 2, 0, 1, 1, 4, 0, 4, 0                                  	// OSLAR_EL1 = 0
	rw	OSDLR_EL1, 2, 0, 1, 3, 4, 0, 1
	rw	OSDTRRX_EL1, 2, 0, 0, 0, 2, 0xffffffff
	rw	OSDTRTX_EL1, 2, 0, 0, 3, 2, 0xffffffff
	rw	OSECCR_EL1, 2, 0, 0, 6, 2, 0xffffffff
	rw	MDCCINT_EL1, 2, 0, 0, 2, 0, 0x60000000
	rw	MDSCR_EL1, 2, 0, 0, 2, 2, 0, 0x1000
	rw	DBGDTRRX_EL0, 2, 3, 0, 5, 0, 0xffffffff
	rw	DBGDTR_EL0, 2, 3, 0, 4, 0, 0xffffffffffffffff
	rw2	DBGCLAIMCLR_EL1, 2, 0, 7, 9, 6, 8, 6, 0xff                         	// DBGCLAIMSET_EL1
	rw	DBGPRCR_EL1, 2, 0, 1, 4, 4, 1
	.irp	n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
	rw	DBGBVR\n\()_EL1, 2, 0, 0, \n, 4, 0x0000fffffffffffc
	rw	DBGBCR\n\()_EL1, 2, 0, 0, \n, 5, 0x1e6
	rw	DBGWVR\n\()_EL1, 2, 0, 0, \n, 6, 0x0000fffffffffffc
	rw	DBGWCR\n\()_EL1, 2, 0, 0, \n, 7, 0x1ffe
	.endr
	ro	MDCCSR_EL0, 2, 3, 0, 1, 0
	ro	MDRAR_EL1, 2, 0, 1, 0, 0
	ro	DBGAUTHSTATUS_EL1, 2, 0, 7, 14, 6

	// The interrupt controller, where it is registers (GICv3)
	rw	ICC_PMR_EL1, 3, 0, 4, 6, 0, 0, 0xf0                                 	// in use
	rw	ICC_BPR1_EL1, 3, 0, 12, 12, 3, 0, 3
	rw	ICC_IGRPEN0_EL1, 3, 0, 12, 12, 6, 0, 1
	rw	ICC_IGRPEN1_EL1, 3, 0, 12, 12, 7, 0, 1                              	// in use
	ro	ICC_CTLR_EL1, 3, 0, 12, 12, 4
	ro	ICC_SRE_EL1, 3, 0, 12, 12, 5

	// Identity of the vCPU
	ro	MIDR_EL1, 3, 0, 0, 0, 0
	ro	MPIDR_EL1, 3, 0, 0, 0, 5
	ro	REVIDR_EL1, 3, 0, 0, 0, 6
	ro	AIDR_EL1, 3, 1, 0, 0, 7
	ro	CTR_EL0, 3, 3, 0, 0, 1
	ro	DCZID_EL0, 3, 3, 0, 0, 7
	ro	CLIDR_EL1, 3, 1, 0, 0, 1
	ro	SMIDR_EL1, 3, 1, 0, 0, 6
	ro	GMID_EL1, 3, 1, 0, 0, 4
	ro	CNTFRQ_EL0, 3, 3, 14, 0, 0
	ro	RVBAR_EL1, 3, 0, 12, 0, 1
	ro	RMR_EL1, 3, 0, 12, 0, 2
	ro	LORID_EL1, 3, 0, 10, 4, 7
	ro	ERRIDR_EL1, 3, 0, 5, 3, 0
	ro	ID_PFR0_EL1, 3, 0, 0, 1, 0
	ro	ID_PFR1_EL1, 3, 0, 0, 1, 1
	ro	ID_DFR0_EL1, 3, 0, 0, 1, 2
	ro	ID_AFR0_EL1, 3, 0, 0, 1, 3
	ro	ID_MMFR0_EL1, 3, 0, 0, 1, 4
	ro	ID_MMFR1_EL1, 3, 0, 0, 1, 5
	ro	ID_MMFR2_EL1, 3, 0, 0, 1, 6
	ro	ID_MMFR3_EL1, 3, 0, 0, 1, 7
	ro	ID_ISAR0_EL1, 3, 0, 0, 2, 0
	ro	ID_ISAR1_EL1, 3, 0, 0, 2, 1
	ro	ID_ISAR2_EL1, 3, 0, 0, 2, 2
	ro	ID_ISAR3_EL1, 3, 0, 0, 2, 3
	ro	ID_ISAR4_EL1, 3, 0, 0, 2, 4
	ro	ID_ISAR5_EL1, 3, 0, 0, 2, 5
	ro	ID_MMFR4_EL1, 3, 0, 0, 2, 6
	ro	ID_ISAR6_EL1, 3, 0, 0, 2, 7
	ro	MVFR0_EL1, 3, 0, 0, 3, 0
	ro	MVFR1_EL1, 3, 0, 0, 3, 1
	ro	MVFR2_EL1, 3, 0, 0, 3, 2
	ro	S3_0_C0_C3_3, 3, 0, 0, 3, 3
	ro	ID_PFR2_EL1, 3, 0, 0, 3, 4
	ro	ID_DFR1_EL1, 3, 0, 0, 3, 5
	ro	ID_MMFR5_EL1, 3, 0, 0, 3, 6
	ro	S3_0_C0_C3_7, 3, 0, 0, 3, 7
	ro	ID_AA64PFR0_EL1, 3, 0, 0, 4, 0
	ro	ID_AA64PFR1_EL1, 3, 0, 0, 4, 1
	ro	ID_AA64PFR2_EL1, 3, 0, 0, 4, 2
	ro	S3_0_C0_C4_3, 3, 0, 0, 4, 3
	ro	ID_AA64ZFR0_EL1, 3, 0, 0, 4, 4
	ro	ID_AA64SMFR0_EL1, 3, 0, 0, 4, 5
	ro	S3_0_C0_C4_6, 3, 0, 0, 4, 6
	ro	ID_AA64FPFR0_EL1, 3, 0, 0, 4, 7
	ro	ID_AA64DFR0_EL1, 3, 0, 0, 5, 0
	ro	ID_AA64DFR1_EL1, 3, 0, 0, 5, 1
	ro	ID_AA64DFR2_EL1, 3, 0, 0, 5, 2
	ro	S3_0_C0_C5_3, 3, 0, 0, 5, 3
	ro	ID_AA64AFR0_EL1, 3, 0, 0, 5, 4
	ro	ID_AA64AFR1_EL1, 3, 0, 0, 5, 5
	ro	S3_0_C0_C5_6, 3, 0, 0, 5, 6
	ro	S3_0_C0_C5_7, 3, 0, 0, 5, 7
	ro	ID_AA64ISAR0_EL1, 3, 0, 0, 6, 0
	ro	ID_AA64ISAR1_EL1, 3, 0, 0, 6, 1
	ro	ID_AA64ISAR2_EL1, 3, 0, 0, 6, 2
	ro	ID_AA64ISAR3_EL1, 3, 0, 0, 6, 3
	ro	S3_0_C0_C6_4, 3, 0, 0, 6, 4
	ro	S3_0_C0_C6_5, 3, 0, 0, 6, 5
	ro	S3_0_C0_C6_6, 3, 0, 0, 6, 6
	ro	S3_0_C0_C6_7, 3, 0, 0, 6, 7
	ro	ID_AA64MMFR0_EL1, 3, 0, 0, 7, 0
	ro	ID_AA64MMFR1_EL1, 3, 0, 0, 7, 1
	ro	ID_AA64MMFR2_EL1, 3, 0, 0, 7, 2
	ro	ID_AA64MMFR3_EL1, 3, 0, 0, 7, 3
	ro	ID_AA64MMFR4_EL1, 3, 0, 0, 7, 4
	ro	S3_0_C0_C7_5, 3, 0, 0, 7, 5
	ro	S3_0_C0_C7_6, 3, 0, 0, 7, 6
	ro	S3_0_C0_C7_7, 3, 0, 0, 7, 7

	// Implementation defined registers of QEMU's Cortex-A57 and -A72, and of its Neoverse N1
	ro	S3_1_C11_C0_2, 3, 1, 11, 0, 2
	ro	S3_1_C11_C0_3, 3, 1, 11, 0, 3
	ro	S3_1_C15_C0_0, 3, 1, 15, 0, 0
	ro	S3_1_C15_C2_0, 3, 1, 15, 2, 0
	ro	S3_1_C15_C2_1, 3, 1, 15, 2, 1
	ro	S3_1_C15_C2_2, 3, 1, 15, 2, 2
	ro	S3_1_C15_C2_3, 3, 1, 15, 2, 3
	ro	S3_1_C15_C3_0, 3, 1, 15, 3, 0
	ro	S3_0_C15_C0_0, 3, 0, 15, 0, 0
	ro	S3_0_C15_C1_0, 3, 0, 15, 1, 0
	ro	S3_0_C15_C1_1, 3, 0, 15, 1, 1
	ro	S3_0_C15_C1_2, 3, 0, 15, 1, 2
	ro	S3_0_C15_C1_4, 3, 0, 15, 1, 4
	ro	S3_0_C15_C2_0, 3, 0, 15, 2, 0
	ro	S3_0_C15_C2_1, 3, 0, 15, 2, 1
	ro	S3_0_C15_C2_2, 3, 0, 15, 2, 2
	ro	S3_0_C15_C2_7, 3, 0, 15, 2, 7
	ro	S3_0_C15_C7_0, 3, 0, 15, 7, 0

	.pushsection .text.table, "ax"
table_end:
	.popsection
	// Handled by hand, in this order: registers that an exception changes, and the timers.
	.irp	name, FAR_EL1, ESR_EL1, ELR_EL1, SPSR_EL1, CNTV_CVAL_EL0, CNTP_CVAL_EL0, CNTV_CTL_EL0, CNTP_CTL_EL0
	entry	\name, 0, 0, 0, 0
	.endr
	.equ	REGISTERS_ALL, REGISTERS + 8

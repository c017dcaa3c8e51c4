// Registers that the guest keeps, one line each.
//
//   keep NAME, op0, op1, CRn, CRm, op2, MASK, FIXED
//       where MASK has ones, the value is unique to the vCPU and the register; elsewhere it is FIXED
//   part NAME, op0, op1, CRn, CRm, op2, MASK, FIXED, KEPT
//       as keep, but only the bits of KEPT must stay; the others are as in look
//   look NAME, op0, op1, CRn, CRm, op2
//       only read; identity of the vCPU, whose changes are noticed and not an error
//
// A register need not keep the written value. The value read back right afterwards is the expected
// one. A register that the vCPU does not have is UNDEF, and must stay so. The values have no effect
// while the MMU is off, counters are stopped and breakpoints disabled. Names and encodings are the
// Arm architecture's. Registers that every exception changes (ELR_EL1, SPSR_EL1 ...) are in main.s,
// and the timers in time.s.
//
// An entry is 64 bytes:
//   +0 MASK   +8 FIXED   +16 read it into x0, return   +24 write it from x0, return
//   +32 bits that must stay   +40 its name

	.macro	guest_entry name, op0, op1, crn, crm, op2, mask, fixed, kept
	.quad	\mask, \fixed
	// `.inst` accepts every encoding, also those unknown to the assembler.
	.inst	0xd5300000 | ((\op0 & 1) << 19) | (\op1 << 16) | (\crn << 12) | (\crm << 8) | (\op2 << 5)
	ret
	.inst	0xd5100000 | ((\op0 & 1) << 19) | (\op1 << 16) | (\crn << 12) | (\crm << 8) | (\op2 << 5)
	ret
	.quad	\kept
	.asciz	"\name"
	.balign	64
	.endm

	.macro	keep name, op0, op1, crn, crm, op2, mask, fixed=0
	guest_entry \name, \op0, \op1, \crn, \crm, \op2, \mask, \fixed, 0xffffffffffffffff
	.endm

	.macro	part name, op0, op1, crn, crm, op2, mask, fixed, kept
	guest_entry \name, \op0, \op1, \crn, \crm, \op2, \mask, \fixed, \kept
	.endm

	.macro	look name, op0, op1, crn, crm, op2
	guest_entry \name, \op0, \op1, \crn, \crm, \op2, 0, 0, 0
	.endm

	.balign	64
guest_table:
	// Control
	keep	SCTLR_EL1, 3, 0, 1, 0, 0, 0x0405d200, 0x00c00838                   	// MMU, caches and alignment checks off
	keep	ACTLR_EL1, 3, 0, 1, 0, 1, 0xffffffffffffffff
	keep	CPACR_EL1, 3, 0, 1, 0, 2, 0, 0x03330000                            	// FP and SVE: needed for what follows
	keep	SCTLR2_EL1, 3, 0, 1, 0, 3, 0, 6
	keep	ZCR_EL1, 3, 0, 1, 2, 0, 0, 0xf                                     	// the longest vectors

	// Translation, all of it without effect while the MMU is off
	keep	TTBR0_EL1, 3, 0, 2, 0, 0, 0xfffffffffffffffe
	keep	TTBR1_EL1, 3, 0, 2, 0, 1, 0xfffffffffffffffe
	keep	TCR_EL1, 3, 0, 2, 0, 2, 0x0000001fbf3f003f, 0x0000000000800080
	keep	TCR2_EL1, 3, 0, 2, 0, 3, 0xc01, 2
	keep	MAIR_EL1, 3, 0, 10, 2, 0, 0xffffffffffffffff
	keep	AMAIR_EL1, 3, 0, 10, 3, 0, 0xffffffffffffffff
	keep	PIR_EL1, 3, 0, 10, 2, 3, 0xffffffffffffffff
	keep	PIRE0_EL1, 3, 0, 10, 2, 2, 0xffffffffffffffff
	keep	POR_EL1, 3, 0, 10, 2, 4, 0xffffffffffffffff
	keep	POR_EL0, 3, 3, 10, 2, 4, 0xffffffffffffffff
	keep	PAR_EL1, 3, 0, 7, 4, 0, 0xffffffffffffffff
	keep	AFSR0_EL1, 3, 0, 5, 1, 0, 0xffffffff
	keep	AFSR1_EL1, 3, 0, 5, 1, 1, 0xffffffff

	// Identification of threads, keys of pointer authentication
	keep	CONTEXTIDR_EL1, 3, 0, 13, 0, 1, 0xffffffff
	keep	TPIDR_EL1, 3, 0, 13, 0, 4, 0xffffffffffffffff
	keep	TPIDR_EL0, 3, 3, 13, 0, 2, 0xffffffffffffffff
	keep	TPIDRRO_EL0, 3, 3, 13, 0, 3, 0xffffffffffffffff
	keep	SP_EL0, 3, 0, 4, 1, 0, 0xffffffffffffffff
	keep	APIAKEYLO_EL1, 3, 0, 2, 1, 0, 0xffffffffffffffff
	keep	APIAKEYHI_EL1, 3, 0, 2, 1, 1, 0xffffffffffffffff
	keep	APIBKEYLO_EL1, 3, 0, 2, 1, 2, 0xffffffffffffffff
	keep	APIBKEYHI_EL1, 3, 0, 2, 1, 3, 0xffffffffffffffff
	keep	APDAKEYLO_EL1, 3, 0, 2, 2, 0, 0xffffffffffffffff
	keep	APDAKEYHI_EL1, 3, 0, 2, 2, 1, 0xffffffffffffffff
	keep	APDBKEYLO_EL1, 3, 0, 2, 2, 2, 0xffffffffffffffff
	keep	APDBKEYHI_EL1, 3, 0, 2, 2, 3, 0xffffffffffffffff
	keep	APGAKEYLO_EL1, 3, 0, 2, 3, 0, 0xffffffffffffffff
	keep	APGAKEYHI_EL1, 3, 0, 2, 3, 1, 0xffffffffffffffff

	// Floating point, caches, timers
	keep	FPCR, 3, 3, 4, 4, 0, 0x07c00000
	keep	FPSR, 3, 3, 4, 4, 1, 0x0800009f
	keep	FPMR, 3, 3, 4, 4, 2, 0xff7fff
	keep	CSSELR_EL1, 3, 2, 0, 0, 0, 0, 2
	keep	CNTKCTL_EL1, 3, 0, 14, 1, 0, 0x3fb

	// Performance monitors: first PMCR_EL0, which stops the others and could reset them. Its
	// implementer and number of counters are not kept.
	part	PMCR_EL0, 3, 3, 9, 12, 0, 0x78, 0, 0x7ff
	keep	PMCCFILTR_EL0, 3, 3, 14, 15, 7, 0xfc000000
	keep	PMCCNTR_EL0, 3, 3, 9, 13, 0, 0xffffffffffffffff
	keep	PMSELR_EL0, 3, 3, 9, 12, 5, 0, 3
	keep	PMUSERENR_EL0, 3, 3, 9, 14, 0, 0xf
	keep	PMCNTENSET_EL0, 3, 3, 9, 12, 1, 0x8000003f
	keep	PMINTENSET_EL1, 3, 0, 9, 14, 1, 0x8000003f
	keep	PMOVSSET_EL0, 3, 3, 9, 14, 3, 0x8000003f
	.irp	n, 0,1,2,3,4,5
	keep	PMEVCNTR\n\()_EL0, 3, 3, 14, 8, \n, 0xffffffff
	keep	PMEVTYPER\n\()_EL0, 3, 3, 14, 12, \n, 0xfc00001f
	.endr

	// Debug: break- and watchpoints disabled. Not MDCCINT_EL1: KVM keeps it while it traps the debug
	// registers. Once it gives them to the guest, the guest has the CPU's own, which an emulator does
	// not implement.
	keep	MDSCR_EL1, 2, 0, 0, 2, 2, 0, 0x1000
	.irp	n, 0,1,2,3,4,5
	keep	DBGBVR\n\()_EL1, 2, 0, 0, \n, 4, 0x0000fffffffffffc
	keep	DBGBCR\n\()_EL1, 2, 0, 0, \n, 5, 0x1e6
	.endr
	.irp	n, 0,1,2,3
	keep	DBGWVR\n\()_EL1, 2, 0, 0, \n, 6, 0x0000fffffffffffc
	keep	DBGWCR\n\()_EL1, 2, 0, 0, \n, 7, 0x1ffe
	.endr

	// The interrupt controller's CPU interface, in use
	keep	ICC_PMR_EL1, 3, 0, 4, 6, 0, 0, 0xf0
	keep	ICC_BPR1_EL1, 3, 0, 12, 12, 3, 0, 3
	keep	ICC_IGRPEN0_EL1, 3, 0, 12, 12, 6, 0, 1
	keep	ICC_IGRPEN1_EL1, 3, 0, 12, 12, 7, 0, 1

	// Identity of the vCPU
	look	MIDR_EL1, 3, 0, 0, 0, 0
	look	MPIDR_EL1, 3, 0, 0, 0, 5
	look	REVIDR_EL1, 3, 0, 0, 0, 6
	look	CTR_EL0, 3, 3, 0, 0, 1
	look	CLIDR_EL1, 3, 1, 0, 0, 1
	look	CCSIDR_EL1, 3, 1, 0, 0, 0
	look	CNTFRQ_EL0, 3, 3, 14, 0, 0
	look	ICC_CTLR_EL1, 3, 0, 12, 12, 4
	look	PMMIR_EL1, 3, 0, 9, 14, 6
	look	ID_AA64PFR0_EL1, 3, 0, 0, 4, 0
	look	ID_AA64PFR1_EL1, 3, 0, 0, 4, 1
	look	ID_AA64PFR2_EL1, 3, 0, 0, 4, 2
	look	ID_AA64ZFR0_EL1, 3, 0, 0, 4, 4
	look	ID_AA64FPFR0_EL1, 3, 0, 0, 4, 7
	look	ID_AA64DFR0_EL1, 3, 0, 0, 5, 0
	look	ID_AA64DFR1_EL1, 3, 0, 0, 5, 1
	look	ID_AA64ISAR0_EL1, 3, 0, 0, 6, 0
	look	ID_AA64ISAR1_EL1, 3, 0, 0, 6, 1
	look	ID_AA64ISAR2_EL1, 3, 0, 0, 6, 2
	look	ID_AA64ISAR3_EL1, 3, 0, 0, 6, 3
	look	ID_AA64MMFR0_EL1, 3, 0, 0, 7, 0
	look	ID_AA64MMFR1_EL1, 3, 0, 0, 7, 1
	look	ID_AA64MMFR2_EL1, 3, 0, 0, 7, 2
	look	ID_AA64MMFR3_EL1, 3, 0, 0, 7, 3
	look	ID_AA64MMFR4_EL1, 3, 0, 0, 7, 4
guest_table_end:

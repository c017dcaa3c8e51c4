// Guest whose translation tables have a granule of 16 or 64 KiB, for `cargo xtask lab busy-guest
// --granule`. Assembled with `--defsym SHIFT=14` or `--defsym SHIFT=16`.
//
// vCPU 0 runs at EL1 with its MMU on. It maps RAM and the UART at their own addresses. In each
// round it maps another page into a window, and then accesses the page at both addresses. It also
// compares its system registers with their first values, and checks that the counter increases.
//
// Its output is that of inside/busy-init. The rounds begin before `READY` and never end.

	.equ	UART, 0x09000000
	.equ	UART_DR, 0
	.equ	UART_FR, 0x18
	.equ	UART_LCR_H, 0x2c
	.equ	UART_CR, 0x30

	.equ	RAM, 0x40000000
	.equ	RAM_END, 0x50000000
	.equ	LEVEL2, 0x41000000		// table of level 2, where translation begins
	.equ	LEVEL3, 0x41100000		// table of level 3, for the window
	.equ	PAGES, 0x42000000
	.equ	WINDOW, 0x80000000
	.equ	WINDOW_PAGES, 32
	.equ	NUM_PAGES, 64

	.equ	BLOCK_SHIFT, 2 * SHIFT - 3	// an entry of level 2 maps as much as a table of level 3
	.equ	DEVICE_BLOCK, 0x60000000000401	// not executable, accessed, attribute 0
	.equ	RAM_BLOCK, 0x705		// accessed, inner shareable, attribute 1
	.equ	RAM_PAGE, 0x707
	.equ	TABLE, 3

	.equ	MAIR, 0xff00			// 0: device, 1: normal memory, write-back
	.equ	ADDRESS_BITS, 36
	.equ	T0SZ, 64 - ADDRESS_BITS
	.if SHIFT == 16
	.equ	TG0, 1
	.equ	MMFR0_TGRAN, 24			// 0 if the CPU has this granule
	.else
	.equ	TG0, 2
	.equ	MMFR0_TGRAN, 20			// not 0 if the CPU has this granule
	.endif
	// Cacheable and inner shareable table walks, 40 bits of physical addresses, no TTBR1_EL1.
	.equ	TCR, T0SZ | 0x3500 | TG0 << 14 | 1 << 23 | 2 << 32

	.global	_start
	.text
_start:
	msr	daifset, #0xf
	ldr	x19, =UART
	mov	w1, #0x60			// 8 bits, no FIFO
	str	w1, [x19, #UART_LCR_H]
	mov	w1, #0x301			// on, both ways
	str	w1, [x19, #UART_CR]

	mrs	x0, id_aa64mmfr0_el1
	ubfx	x0, x0, #MMFR0_TGRAN, #4
	.if SHIFT == 16
	cbnz	x0, no_granule
	.else
	cbz	x0, no_granule
	.endif

	// Tables.
	ldr	x20, =LEVEL2
	ldr	x0, =UART
	ldr	x1, =DEVICE_BLOCK
	bl	map_block
	ldr	x21, =RAM
1:	mov	x0, x21
	mov	x1, #RAM_BLOCK
	bl	map_block
	mov	x2, #1
	add	x21, x21, x2, lsl #BLOCK_SHIFT
	ldr	x2, =RAM_END
	cmp	x21, x2
	b.lo	1b
	ldr	x2, =WINDOW
	lsr	x2, x2, #BLOCK_SHIFT
	ldr	x3, =LEVEL3 | TABLE
	str	x3, [x20, x2, lsl #3]

	// MMU and caches on.
	mov	x0, #MAIR
	msr	mair_el1, x0
	ldr	x0, =TCR
	msr	tcr_el1, x0
	msr	ttbr0_el1, x20
	dsb	sy
	isb
	tlbi	vmalle1
	dsb	sy
	isb
	mrs	x0, sctlr_el1
	mov	x1, #0x1005			// I, C, M
	orr	x0, x0, x1
	msr	sctlr_el1, x0
	isb

	mrs	x23, tcr_el1
	mrs	x24, ttbr0_el1
	mrs	x25, mair_el1
	mrs	x26, sctlr_el1
	mrs	x27, cntvct_el0
	mov	x21, #0				// rounds
	mov	x22, #0				// differences
	ldr	x20, =LEVEL3
	adr	x28, ready

next_round:
	bl	round
	add	x21, x21, #1
	tst	x21, #0x3ff
	b.ne	next_round
	// The text `ready` after the first rounds, and the result after a line of input.
	cbz	x28, 1f
	mov	x0, x28
	mov	x28, #0
	bl	put_text
1:	ldr	w0, [x19, #UART_FR]
	tbnz	w0, #4, next_round
	ldr	w0, [x19, #UART_DR]
	and	w0, w0, #0xff
	cmp	w0, #'\n'
	b.ne	next_round
	adr	x0, unchanged
	adr	x1, changed
	cmp	x22, #0
	csel	x0, x0, x1, eq
	bl	put_text
	b	next_round

// Maps the page of this round into the window, and accesses it at both addresses.
round:
	mov	x16, x30
	and	x0, x21, #NUM_PAGES - 1
	ldr	x1, =PAGES
	add	x1, x1, x0, lsl #SHIFT		// the page
	mov	x2, #7
	mul	x2, x2, x21
	and	x2, x2, #WINDOW_PAGES - 1
	ldr	x3, =WINDOW
	add	x3, x3, x2, lsl #SHIFT		// its address in the window
	str	xzr, [x20, x2, lsl #3]
	bl	invalidate
	mov	x4, #RAM_PAGE
	orr	x4, x4, x1
	str	x4, [x20, x2, lsl #3]
	bl	invalidate

	mov	x5, #1
	lsl	x5, x5, #SHIFT
	sub	x5, x5, #8			// offset of the last word in the page
	eor	x6, x21, x3
	str	x6, [x3, x5]
	ldr	x7, [x1, x5]
	bl	expect
	mvn	x6, x6
	str	x6, [x1]
	ldr	x7, [x3]
	bl	expect

	mrs	x6, tcr_el1
	mov	x7, x23
	bl	expect
	mrs	x6, ttbr0_el1
	mov	x7, x24
	bl	expect
	mrs	x6, mair_el1
	mov	x7, x25
	bl	expect
	mrs	x6, sctlr_el1
	mov	x7, x26
	bl	expect
	isb
	mrs	x6, cntvct_el0
	cmp	x6, x27
	cinc	x22, x22, lo
	mov	x27, x6
	ret	x16

// Counts a difference between x6 and x7.
expect:
	cmp	x6, x7
	cinc	x22, x22, ne
	ret

// Completes a change of the entry of the address x3.
invalidate:
	dsb	ishst
	lsr	x8, x3, #12
	tlbi	vaae1is, x8
	dsb	ish
	isb
	ret

// Writes the entry of level 2 for the address x0, with the attributes x1. Uses x2, x3.
map_block:
	lsr	x2, x0, #BLOCK_SHIFT
	lsl	x3, x2, #BLOCK_SHIFT
	orr	x3, x3, x1
	str	x3, [x20, x2, lsl #3]
	ret

no_granule:
	adr	x0, lacking
	bl	put_text
1:	wfi
	b	1b

// Prints the text at x0, up to a zero byte. Uses x1, x2.
put_text:
1:	ldrb	w1, [x0], #1
	cbz	w1, 3f
2:	ldr	w2, [x19, #UART_FR]
	tbnz	w2, #5, 2b
	str	w1, [x19, #UART_DR]
	b	1b
3:	ret

	.ltorg
ready:
	.if SHIFT == 16
	.ascii	"BOOT translation granule 64 KiB\n"
	.else
	.ascii	"BOOT translation granule 16 KiB\n"
	.endif
	.asciz	"RECORD 0\nREADY\n"
unchanged:
	.asciz	"CHECK unchanged: memory and registers\nDONE 0 0 0\nAGAIN\n"
changed:
	.asciz	"CHECK found granule memory or registers differ\nDONE 1 1 0\nAGAIN\n"
lacking:
	.asciz	"CHECK the CPU lacks this granule\nRECORD 1\nREADY\n"

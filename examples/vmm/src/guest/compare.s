// State that the guest of main.s writes once and compares in every round: registers, vectors,
// memory. Clocks are in time.s.

// General registers, and registers that exceptions change

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

// -------------------------------------------------------------------------------------------------
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
	ldr	x6, [x24, #32]
	cmp	x7, #0				// gone, but it held nothing: that can be seen, and is no loss
	ccmp	x4, #0, #0, ne
	csel	x6, xzr, x6, eq
	cmp	x7, #0				// an undefined one is said to be all ones
	csinv	x5, x1, xzr, eq
	eor	x7, x4, x5
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

// -------------------------------------------------------------------------------------------------
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
	// FFR has ones from its lowest bit on, then zeros: as many as the first half of a vector.
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

// Compares x7 found bytes at x2 with those at x3.
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

// -------------------------------------------------------------------------------------------------
// Memory

// Fills the page x2 with the pattern of the stamp x3. Changes x3, x4, x5.
guest_fill_page:
	add	x5, x2, #4096
	ldr	x4, =0x9e3779b97f4a7c15
1:	str	x3, [x2], #8
	add	x3, x3, x4
	cmp	x2, x5
	b.ne	1b
	ret

// Compares the page with that pattern.
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

// Each round compares one page of either kind. The moving page is then rewritten.
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


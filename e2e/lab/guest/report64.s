// Output of aarch64.s, and the UART (PL011) that it uses.

uart_init:
	ldr	x0, =UART
	mov	w1, #0x60			// UARTLCR_H: 8 bits, no FIFO: an interrupt for each byte
	str	w1, [x0, #0x2c]
	mov	w1, #0x301			// UARTCR: on, both ways
	str	w1, [x0, #0x30]
	mov	w1, #0x10			// UARTIMSC: something was received
	str	w1, [x0, #0x38]
	ret

// Prints the byte w0. Uses x1, x2.
put_byte:
	ldr	x1, =UART
1:	ldr	w2, [x1, #UART_FR]
	tbnz	w2, #5, 1b
	str	w0, [x1]
	ret
put_space:
	mov	w0, #' '
	b	put_byte
put_newline:
	mov	w0, #'\n'
	b	put_byte

// Prints the text at x0, up to a zero byte. Uses x0 ... x4.
put_text:
	mov	x3, x30
	mov	x4, x0
1:	ldrb	w0, [x4], #1
	cbz	w0, 2f
	bl	put_byte
	b	1b
2:	ret	x3

// Prints x0 in hexadecimal, 16 digits. Uses x0 ... x5.
put_hex:
	mov	x3, x30
	mov	x4, x0
	mov	x5, #60
1:	lsr	x0, x4, x5
	and	x0, x0, #15
	cmp	x0, #10
	b.lt	2f
	add	x0, x0, #('a' - '0' - 10)
2:	add	x0, x0, #'0'
	bl	put_byte
	subs	x5, x5, #4
	b.ge	1b
	ret	x3

// Prints x0 in decimal. Uses x0 ... x7.
put_decimal:
	mov	x3, x30
	mov	x4, x0
	mov	x5, #1
	mov	x6, #10
1:	udiv	x7, x4, x5			// the highest power of ten that is not above it
	cmp	x7, #10
	b.lt	2f
	mul	x5, x5, x6
	b	1b
2:	udiv	x7, x4, x5
	msub	x4, x7, x5, x4
	add	x0, x7, #'0'
	bl	put_byte
	udiv	x5, x5, x6
	cbnz	x5, 2b
	ret	x3

say_ready:
	stp	x29, x30, [sp, #-16]!
	adr	x0, text_ready
	bl	put_text
	mov	x0, x22
	bl	put_decimal
	adr	x0, text_gic
	bl	put_text
	which_gic
	cset	x0, ne
	add	x0, x0, #2
	bl	put_decimal
	bl	put_newline
	ldp	x29, x30, [sp], #16
	ret

// Prints one difference, and counts it in x23. In: x24 vCPU, x25 name, x26 number after the name or
// -1, x27 expected, x28 found, x29 undefined: bit 0 before, bit 1 now.
put_difference:
	stp	x19, x30, [sp, #-16]!
	add	x23, x23, #1
	adr	x0, text_diff
	bl	put_text
	mov	x0, x24
	bl	put_decimal
	bl	put_space
	mov	x0, x25
	bl	put_text
	tbnz	x26, #63, 1f
	mov	x0, x26
	bl	put_decimal
1:	bl	put_space
	mov	x0, x27
	tst	x29, #1
	bl	put_value
	bl	put_space
	mov	x0, x28
	tst	x29, #2
	bl	put_value
	bl	put_newline
	ldp	x19, x30, [sp], #16
	ret
put_value:					// x0, or UNDEF if ne
	b.eq	put_hex
	adr	x0, text_undef
	b	put_text

// Compares x13 doublewords at x11 with those at x12, x14 of them per register, whose name is the
// text x25 and its number.
compare_array:
	stp	x19, x30, [sp, #-16]!
	mov	x29, #0
	mov	x10, #0
1:	cmp	x10, x13
	b.ge	3f
	ldr	x27, [x11, x10, lsl #3]
	ldr	x28, [x12, x10, lsl #3]
	cmp	x27, x28
	b.eq	2f
	udiv	x26, x10, x14
	bl	put_difference
2:	add	x10, x10, #1
	b	1b
3:	ldp	x19, x30, [sp], #16
	ret

// Prints every difference of every vCPU.
report_differences:
	stp	x19, x30, [sp, #-16]!
	mov	x24, #0
1:	ldr	x19, =AREAS
	add	x19, x19, x24, lsl #17
	bl	report_registers
	bl	report_general
	bl	report_vectors
	bl	report_counters
	add	x24, x24, #1
	cmp	x24, x22
	b.lt	1b
	// RAM is shared, and reported as vCPU 0's.
	mov	x24, #0
	mov	x29, #0
	mov	x26, #-1
	ldr	x10, =PATTERN
	ldr	x11, =0x9e3779b97f4a7c15
	mov	x12, #0
	adr	x25, text_ram
2:	mul	x27, x12, x11
	ldr	x28, [x10, x12, lsl #3]
	cmp	x27, x28
	b.eq	3f
	bl	put_difference
3:	add	x12, x12, #1
	cmp	x12, #PATTERN_COUNT
	b.lt	2b
	ldp	x19, x30, [sp], #16
	ret

	.ifdef	LIVE
// Prints the counter of every vCPU, and the pages with another count than its first one.
report_counts:
	stp	x19, x30, [sp, #-16]!
	mov	x24, #0
	mov	x29, #0
	mov	x26, #-1
	adr	x25, text_counted
1:	ldr	x19, =COUNTED
	add	x19, x19, x24, lsl #COUNTED_SHIFT
	ldr	x27, [x19]
	adr	x0, text_count
	bl	put_text
	mov	x0, x24
	bl	put_decimal
	bl	put_space
	mov	x0, x27
	bl	put_hex
	bl	put_newline
2:	ldr	x28, [x19]
	cmp	x27, x28
	b.eq	3f
	bl	put_difference
3:	add	x19, x19, #PAGE
	tst	x19, #COUNTED_MASK
	b.ne	2b
	add	x24, x24, #1
	cmp	x24, x22
	b.lt	1b
	ldp	x19, x30, [sp], #16
	ret
	.endif

// Compares the table, then the fragile registers and the timers. x19 = area.
report_registers:
	stp	x10, x30, [sp, #-16]!
	mov	x26, #-1
	mov	x9, #0
	ldr	x10, =table
1:	ldr	x25, [x10, #R_NAME]
	add	x11, x19, #A_EXPECTED
	ldr	x27, [x11, x9, lsl #3]
	add	x11, x19, #A_EXPECTED_UNDEF
	ldr	x29, [x11, x9, lsl #3]
	add	x11, x19, #A_FOUND
	ldr	x28, [x11, x9, lsl #3]
	add	x11, x19, #A_FOUND_UNDEF
	ldr	x12, [x11, x9, lsl #3]
	orr	x29, x29, x12, lsl #1
	cmp	x29, #3				// undefined then and now
	b.eq	3f
	cbnz	x29, 2f
	cmp	x27, x28
	b.eq	3f
2:	bl	put_difference
3:	add	x9, x9, #1
	add	x10, x10, #R_SIZE
	ldr	x11, =REGISTERS_ALL
	cmp	x9, x11
	b.lt	1b
	ldp	x10, x30, [sp], #16
	ret

// Prints the expected value of every register, of every vCPU.
report_values:
	stp	x19, x30, [sp, #-16]!
	mov	x24, #0
1:	ldr	x19, =(AREAS + A_EXPECTED)
	add	x19, x19, x24, lsl #17
	ldr	x10, =table
	mov	x9, #0
2:	adr	x0, text_value
	bl	put_text
	mov	x0, x24
	bl	put_decimal
	bl	put_space
	ldr	x0, [x10, #R_NAME]
	bl	put_text
	bl	put_space
	ldr	x1, [x19, #(A_EXPECTED_UNDEF - A_EXPECTED)]
	ldr	x0, [x19], #8
	cmp	x1, #0
	bl	put_value
	bl	put_newline
	add	x9, x9, #1
	add	x10, x10, #R_SIZE
	ldr	x11, =REGISTERS_ALL
	cmp	x9, x11
	b.lt	2b
	add	x24, x24, #1
	cmp	x24, x22
	b.lt	1b
	ldp	x19, x30, [sp], #16
	ret

// Compares x2 ... x30 and sp.
report_general:
	stp	x19, x30, [sp, #-16]!
	mov	x29, #0
	add	x11, x19, #A_GENERAL
	adr	x25, text_x
	mov	x26, #2
1:	ldr	x0, =0x0101010101010101
	mul	x27, x0, x26
	eor	x27, x27, x24, lsl #32
	ldr	x28, [x11, x26, lsl #3]
	cmp	x27, x28
	b.eq	2f
	bl	put_difference
2:	add	x26, x26, #1
	cmp	x26, #31
	b.lt	1b
	ldr	x27, =A_STACK
	add	x27, x27, x19
	ldr	x28, [x11, #(8 * 31)]
	cmp	x27, x28
	b.eq	3f
	adr	x25, text_sp
	mov	x26, #-1
	bl	put_difference
3:	ldp	x19, x30, [sp], #16
	ret

report_vectors:
	stp	x19, x30, [sp, #-16]!
	ldp	x27, x28, [x19, #A_VECTOR_LENGTH]
	cmp	x27, x28
	b.eq	1f
	mov	x26, #-1
	mov	x29, #0
	adr	x25, text_vector_length
	bl	put_difference
	b	2f				// nothing to compare then
1:	lsr	x14, x27, #3			// doublewords in a vector
	lsl	x13, x14, #5
	add	x11, x19, #A_VECTORS
	add	x12, x19, #A_VECTORS_FOUND
	adr	x25, text_v
	bl	compare_array
	ldr	x0, [x19, #A_VECTOR_LENGTH]
	cmp	x0, #64				// a predicate has a bit for each byte: one doubleword
	b.ne	2f
	add	x11, x19, #A_PREDICATES
	add	x12, x11, #(A_PREDICATES_FOUND - A_PREDICATES)
	mov	x13, #17
	mov	x14, #1
	adr	x25, text_p			// P16 is FFR
	bl	compare_array
2:	ldp	x19, x30, [sp], #16
	ret

// The counters must not go back, nor leap ahead by more than an hour.
report_counters:
	stp	x19, x30, [sp, #-16]!
	mov	x29, #0
	mov	x26, #-1
	mrs	x10, cntfrq_el0
	mov	x11, #3600
	mul	x10, x10, x11
	ldr	x27, [x19, #A_COUNTERS]
	ldr	x28, [x19, #A_COUNTERS + 16]
	adr	x25, text_cntvct
	sub	x11, x28, x27
	cmp	x11, x10
	b.ls	1f
	bl	put_difference
1:	ldr	x27, [x19, #A_COUNTERS + 8]
	ldr	x28, [x19, #A_COUNTERS + 24]
	adr	x25, text_cntpct
	sub	x11, x28, x27
	cmp	x11, x10
	b.ls	2f
	bl	put_difference
2:	ldp	x19, x30, [sp], #16
	ret

	// Prints one line of report_timers: `text`, the vCPU, and the letter.
	.macro	put_timer text, letter
	adr	x0, \text
	bl	put_text
	mov	x0, x24
	bl	put_decimal
	bl	put_space
	mov	w0, #\letter
	bl	put_byte
	bl	put_newline
	.endm

report_timers:
	stp	x19, x30, [sp, #-16]!
	mov	x24, #0
1:	ldr	x19, =AREAS
	add	x19, x19, x24, lsl #17
	ldr	x25, [x19, #A_EXPIRED]
	ldr	x26, [x19, #A_TIMERS]
	tbz	x25, #0, 2f
	put_timer text_expired, 'V'
2:	tbz	x25, #1, 3f
	put_timer text_expired, 'P'
3:	tbz	x26, #0, 4f
	put_timer text_timer, 'V'
	b	5f
4:	put_timer text_no_timer, 'V'
5:	tbz	x26, #1, 6f
	put_timer text_timer, 'P'
	b	7f
6:	put_timer text_no_timer, 'P'
7:	add	x24, x24, #1
	cmp	x24, x22
	b.lt	1b
	ldp	x19, x30, [sp], #16
	ret

	.ltorg

text_ready:		.asciz	"READY "
text_gic:		.asciz	" GICv"
text_value:		.asciz	"VALUE "
text_diff:		.asciz	"DIFF "
text_undef:		.asciz	"UNDEF"
text_timer:		.asciz	"TIMER "
text_no_timer:		.asciz	"NOTIMER "
text_expired:		.asciz	"EXPIRED "
text_done:		.asciz	"DONE "
text_panic:		.asciz	"\nPANIC "
text_ram:		.asciz	"RAM"
text_count:		.asciz	"COUNT "
text_counted:		.asciz	"COUNTED"
text_x:			.asciz	"X"
text_sp:		.asciz	"SP"
text_v:			.asciz	"V"
text_p:			.asciz	"P"
text_vector_length:	.asciz	"VL"
text_cntvct:		.asciz	"CNTVCT_EL0"
text_cntpct:		.asciz	"CNTPCT_EL0"
	.balign	8

// Output of aarch32.s, and the UART (PL011) that it uses.

uart_init:
	ldr	r0, =UART
	mov	r1, #0x60			// UARTLCR_H: 8 bits, no FIFO: an interrupt for each byte
	str	r1, [r0, #0x2c]
	ldr	r1, =0x301			// UARTCR: on, both ways
	str	r1, [r0, #0x30]
	mov	r1, #0x10			// UARTIMSC: something was received
	str	r1, [r0, #0x38]
	bx	lr

// Prints the byte r0. Uses r1, r2.
put_byte:
	ldr	r1, =UART
1:	ldr	r2, [r1, #UART_FR]
	tst	r2, #(1 << 5)
	bne	1b
	str	r0, [r1]
	bx	lr
put_space:
	mov	r0, #' '
	b	put_byte
put_newline:
	mov	r0, #'\n'
	b	put_byte

// Prints the text at r0, up to a zero byte. Uses r0 ... r2.
put_text:
	push	{r4, lr}
	mov	r4, r0
1:	ldrb	r0, [r4], #1
	cmp	r0, #0
	popeq	{r4, pc}
	bl	put_byte
	b	1b

// Prints r0 and, above it, r1 in hexadecimal, 16 digits. Uses r0 ... r2.
put_hex:
	push	{r4-r6, lr}
	mov	r4, r0
	mov	r6, r1
	mov	r5, #60
1:	cmp	r5, #32
	subge	r0, r5, #32
	lsrge	r0, r6, r0
	lsrlt	r0, r4, r5
	and	r0, r0, #15
	cmp	r0, #10
	addge	r0, r0, #('a' - '0' - 10)
	add	r0, r0, #'0'
	bl	put_byte
	subs	r5, r5, #4
	bge	1b
	pop	{r4-r6, pc}

// Prints r0 in decimal. Uses r0 ... r2.
put_decimal:
	push	{r4-r7, lr}
	mov	r4, r0
	mov	r5, #1
	mov	r6, #10
1:	udiv	r7, r4, r5			// the highest power of ten that is not above it
	cmp	r7, #10
	mulge	r5, r6, r5
	bge	1b
2:	udiv	r7, r4, r5
	mls	r4, r7, r5, r4
	add	r0, r7, #'0'
	bl	put_byte
	udiv	r5, r5, r6
	cmp	r5, #0
	bne	2b
	pop	{r4-r7, pc}

say_ready:
	push	{r4, lr}
	ldr	r0, =text_ready
	bl	put_text
	ldr	r0, =vcpus
	ldr	r0, [r0]
	bl	put_decimal
	ldr	r0, =text_gic
	bl	put_text
	which_gic
	moveq	r0, #2
	movne	r0, #3
	bl	put_decimal
	bl	put_newline
	pop	{r4, pc}

// Prints r0 and r1, or UNDEF if r2 is not zero.
put_value:
	cmp	r2, #0
	beq	put_hex
	ldr	r0, =text_undef
	b	put_text

// Compares the doublewords at r4 (expected) and r5 (found), and reports a difference. In: r6 vCPU,
// r7 name, r8 number after the name or -1, r2 undefined before, r3 undefined now. Uses r0 ... r3.
compare:
	push	{r4, r5, r9, r11, lr}
	mov	r9, r2
	mov	r11, r3
	cmp	r2, r3
	bne	1f
	cmp	r2, #0				// undefined then and now
	popne	{r4, r5, r9, r11, pc}
	ldrd	r0, r1, [r4]
	ldrd	r2, r3, [r5]
	cmp	r0, r2
	cmpeq	r1, r3
	popeq	{r4, r5, r9, r11, pc}
1:	ldr	r0, =differences
	ldr	r1, [r0]
	add	r1, r1, #1
	str	r1, [r0]
	ldr	r0, =text_diff
	bl	put_text
	mov	r0, r6
	bl	put_decimal
	bl	put_space
	mov	r0, r7
	bl	put_text
	cmp	r8, #0
	movge	r0, r8
	blge	put_decimal
	bl	put_space
	ldrd	r0, r1, [r4]
	mov	r2, r9
	bl	put_value
	bl	put_space
	ldrd	r0, r1, [r5]
	mov	r2, r11
	bl	put_value
	bl	put_newline
	pop	{r4, r5, r9, r11, pc}

// Prints the expected value of every register, of every vCPU.
report_values:
	push	{r4-r9, lr}
	mov	r6, #0
1:	ldr	r4, =(AREAS + A_EXPECTED)
	add	r4, r4, r6, lsl #AREA_SHIFT
	ldr	r9, =table
	ldr	r8, =REGISTERS_ALL
2:	ldr	r0, =text_value
	bl	put_text
	mov	r0, r6
	bl	put_decimal
	bl	put_space
	ldr	r0, [r9, #R_NAME]
	bl	put_text
	bl	put_space
	add	r2, r4, #(A_EXPECTED_UNDEF - A_EXPECTED)
	ldr	r2, [r2]
	ldrd	r0, r1, [r4], #8
	bl	put_value
	bl	put_newline
	add	r9, r9, #R_SIZE
	subs	r8, r8, #1
	bne	2b
	add	r6, r6, #1
	ldr	r0, =vcpus
	ldr	r0, [r0]
	cmp	r6, r0
	blt	1b
	pop	{r4-r9, pc}

// Prints every difference of every vCPU.
report_differences:
	push	{r4-r9, lr}
	mov	r6, #0
1:	bl	report_registers
	bl	report_general
	bl	report_vectors
	bl	report_counters
	add	r6, r6, #1
	ldr	r0, =vcpus
	ldr	r0, [r0]
	cmp	r6, r0
	blt	1b
	// RAM is shared, and reported as vCPU 0's.
	mov	r6, #0
	ldr	r7, =text_ram
	mvn	r8, #0
	ldr	r9, =PATTERN
	sub	sp, sp, #16			// expected and found, as doublewords
	mov	r0, #0
	str	r0, [sp, #4]
	str	r0, [sp, #12]
2:	ldr	r0, =PATTERN
	sub	r0, r9, r0
	lsr	r0, r0, #2
	ldr	r1, =0x9e3779b9
	mul	r0, r0, r1
	str	r0, [sp]
	ldr	r0, [r9], #4
	str	r0, [sp, #8]
	mov	r4, sp
	add	r5, sp, #8
	mov	r2, #0
	mov	r3, #0
	bl	compare
	ldr	r0, =(PATTERN + 4 * PATTERN_COUNT)
	cmp	r9, r0
	blt	2b
	add	sp, sp, #16
	pop	{r4-r9, pc}

// Compares the table, then the fragile registers and the timers. r6 = vCPU.
report_registers:
	push	{r4, r5, r7-r9, lr}
	ldr	r4, =(AREAS + A_EXPECTED)
	add	r4, r4, r6, lsl #AREA_SHIFT
	add	r5, r4, #(A_FOUND - A_EXPECTED)
	mvn	r8, #0
	ldr	r9, =table
1:	ldr	r7, [r9, #R_NAME]
	add	r2, r4, #(A_EXPECTED_UNDEF - A_EXPECTED)
	ldr	r2, [r2]
	add	r3, r5, #(A_FOUND_UNDEF - A_FOUND)
	ldr	r3, [r3]
	bl	compare
	add	r4, r4, #8
	add	r5, r5, #8
	add	r9, r9, #R_SIZE
	ldr	r0, =(table + R_SIZE * REGISTERS_ALL)
	cmp	r9, r0
	blt	1b
	pop	{r4, r5, r7-r9, pc}

// Compares r2 ... r12, sp and lr. r6 = vCPU.
report_general:
	push	{r4, r5, r7-r9, lr}
	ldr	r9, =AREAS
	add	r9, r9, r6, lsl #AREA_SHIFT
	ldr	r0, =A_STACK
	add	r0, r9, r0			// what sp should be
	add	r9, r9, #A_GENERAL
	sub	sp, sp, #16			// expected and found, as doublewords
	mov	r1, #0
	str	r1, [sp, #4]
	str	r1, [sp, #12]
	ldr	r7, =text_r
	mov	r8, #13
	mov	r4, sp
	add	r5, sp, #8
1:	cmp	r8, #13				// sp first, then from r2 on
	ldrne	r1, =0x01010101
	mulne	r0, r1, r8
	eorne	r0, r0, r6, lsl #28
	str	r0, [sp]
	ldr	r0, [r9, r8, lsl #2]
	str	r0, [sp, #8]
	mov	r2, #0
	mov	r3, #0
	bl	compare
	cmp	r8, #13
	moveq	r8, #1
	cmp	r8, #12
	add	r8, r8, #1
	addeq	r8, r8, #1			// 14 after 12
	cmp	r8, #14
	mov	r0, #0
	ble	1b
	add	sp, sp, #16
	pop	{r4, r5, r7-r9, pc}

report_vectors:
	push	{r4, r5, r7, r8, lr}
	ldr	r4, =(AREAS + A_VECTORS)
	add	r4, r4, r6, lsl #AREA_SHIFT
	add	r5, r4, #(A_VECTORS_FOUND - A_VECTORS)
	ldr	r7, =text_d
	mov	r8, #0
1:	mov	r2, #0
	mov	r3, #0
	bl	compare
	add	r4, r4, #8
	add	r5, r5, #8
	add	r8, r8, #1
	cmp	r8, #32
	blt	1b
	pop	{r4, r5, r7, r8, pc}

// The counters must not go back, nor leap ahead by more than a minute (of 2^32 ticks).
report_counters:
	push	{r4, r5, r7-r9, lr}
	ldr	r4, =(AREAS + A_COUNTERS)
	add	r4, r4, r6, lsl #AREA_SHIFT
	add	r5, r4, #16
	ldr	r7, =text_cntvct
	mvn	r8, #0
	mov	r9, #2
1:	ldrd	r0, r1, [r4]
	ldrd	r2, r3, [r5]
	subs	r0, r2, r0
	sbc	r1, r3, r1
	cmp	r1, #0
	mov	r2, #0
	mov	r3, #0
	blne	compare
	ldr	r7, =text_cntpct
	add	r4, r4, #8
	add	r5, r5, #8
	subs	r9, r9, #1
	bne	1b
	pop	{r4, r5, r7-r9, pc}

	// Prints one line of report_timers: `text`, the vCPU, and the letter.
	.macro	put_timer text, letter
	ldr	r0, =\text
	bl	put_text
	mov	r0, r6
	bl	put_decimal
	bl	put_space
	mov	r0, #\letter
	bl	put_byte
	bl	put_newline
	.endm

report_timers:
	push	{r4-r8, lr}
	mov	r6, #0
1:	ldr	r4, =AREAS
	add	r4, r4, r6, lsl #AREA_SHIFT
	ldr	r7, [r4, #A_EXPIRED]
	ldr	r8, [r4, #A_TIMERS]
	tst	r7, #1
	beq	2f
	put_timer text_expired, 'V'
2:	tst	r7, #2
	beq	3f
	put_timer text_expired, 'P'
3:	tst	r8, #1
	beq	4f
	put_timer text_timer, 'V'
	b	5f
4:	put_timer text_no_timer, 'V'
5:	tst	r8, #2
	beq	6f
	put_timer text_timer, 'P'
	b	7f
6:	put_timer text_no_timer, 'P'
7:	add	r6, r6, #1
	ldr	r0, =vcpus
	ldr	r0, [r0]
	cmp	r6, r0
	blt	1b
	pop	{r4-r8, pc}

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
text_r:			.asciz	"R"
text_d:			.asciz	"D"
text_cntvct:		.asciz	"CNTVCT"
text_cntpct:		.asciz	"CNTPCT"
	.balign	4

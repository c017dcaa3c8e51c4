	.balign	64
	.globl	cpreg_guest_end
cpreg_guest_end:
	.popsection

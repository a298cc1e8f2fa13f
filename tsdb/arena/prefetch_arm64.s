// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

#include "textflag.h"

// func Prefetch(lines []unsafe.Pointer)
TEXT ·Prefetch(SB), NOSPLIT, $0-24
	MOVD lines_base+0(FP), R0
	MOVD lines_len+8(FP), R1
	JMP  more

next:
	MOVD.P 8(R0), R2
	PRFM   (R2), PLDL1KEEP
	SUB    $1, R1

more:
	CBNZ R1, next
	RET

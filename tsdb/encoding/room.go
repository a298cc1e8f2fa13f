// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package encoding

// Where differences were taken, the rows before those that are asked for must be decoded too. They are appended and then
// removed; who accounts for memory asks before how many rows there may be meanwhile.

// ValuesRoom returns how many rows DecodeValues appends at most for [from, to), those included that it removes again.
func ValuesRoom(src []byte, from, to int) int {
	if len(src) == 0 {
		return to - from
	}
	switch src[0] {
	case valuesRaw, valuesConst, valuesXOR, valuesRef:
		return to - from
	case valuesNear: // one column behind the other
		return to - from + max(to, orderMask)
	}
	return max(to, orderMask)
}

// IntsRoom is that of DecodeInts.
func IntsRoom(src []byte, from, to int) int {
	if len(src) == 0 || src[0]&orderMask == 0 {
		return to - from
	}
	return max(to, orderMask)
}

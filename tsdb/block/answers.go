// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

// answers keeps in the cache what a block's index has found.
type answers struct {
	cache *Cache
	block uint64
}

// answer is what the index found to a text.
type answer struct {
	text    string
	numbers []uint32
}

// answerBytes is what an answer takes beside its text, which the key has as well, and its numbers.
const answerBytes = 256

func (a *answer) bytes() int64 { return answerBytes + int64(len(a.text)) + 4*int64(cap(a.numbers)) }

func (a answers) key(text string) cacheKey {
	part := uint32(2166136261) // FNV-1a, for the shard
	for i := range len(text) {
		part = (part ^ uint32(text[i])) * 16777619
	}
	return cacheKey{block: a.block, part: part, text: text}
}

func (a answers) Answer(text string) ([]uint32, bool) {
	x, ok := a.cache.get(a.key(text)).(*answer)
	if !ok {
		return nil, false
	}
	return x.numbers, true
}

func (a answers) Keep(text string, numbers []uint32) {
	a.cache.put(a.key(text), &answer{text, numbers})
}

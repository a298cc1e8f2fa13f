// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
)

// failing is a writer that takes a number of bytes and then fails.
type failing struct {
	bytes.Buffer
	left int
}

var errFull = errors.New("full")

func (f *failing) Write(b []byte) (int, error) {
	if f.left -= len(b); f.left < 0 {
		return 0, errFull
	}
	return f.Buffer.Write(b)
}

func TestPipelineWritesEverythingInOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 50 {
		to := &failing{left: 1 << 30}
		p := &pipeline{w: to}
		var want []byte
		for range rng.IntN(6) {
			b := make([]byte, rng.IntN(4*pieceBytes))
			for i := range b {
				b[i] = byte(rng.Uint32())
			}
			want = append(want, b...)
			if _, err := p.Write(b); err != nil {
				t.Fatal(err)
			}
			clear(b) // the caller uses its memory again
		}
		if err := p.Close(); err != nil || !bytes.Equal(to.Bytes(), want) {
			t.Fatalf("%d bytes written of %d: %v", to.Len(), len(want), err)
		}
	}
}

func TestPipelineTellsThatTheWriterFailed(t *testing.T) {
	p := &pipeline{w: &failing{left: 3 * pieceBytes}}
	var err error
	for range 20 {
		if _, err = p.Write(make([]byte, 2*pieceBytes)); err != nil {
			break
		}
	}
	if cerr := p.Close(); !errors.Is(cerr, errFull) {
		t.Errorf("Close: %v; the last Write: %v", cerr, err)
	}
	if err := p.Close(); err != nil {
		t.Errorf("the second Close: %v", err)
	}
}

// breaking is a writer that panics.
type breaking struct{}

func (breaking) Write([]byte) (int, error) { panic("broken") }

func TestPanicOfTheWriterEndsTheAnswerOnly(t *testing.T) {
	p := &pipeline{w: breaking{}}
	_, _ = p.Write(make([]byte, 2*pieceBytes)) // Close has the error.
	if err := p.Close(); err == nil {
		t.Error("no error of a writer that panicked")
	}
}

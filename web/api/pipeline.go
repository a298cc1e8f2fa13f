// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"fmt"
	"io"
	"sync"
)

// pieceBytes is what the two sides of a pipeline hand over at a time.
const pieceBytes = 64 << 10

// pipeline writes to w on a goroutine of its own, so that compressing and sending an answer goes on beside computing
// it. It begins with the first Write of more than a piece: a short answer is written as it is. At most three pieces are
// under way; then Write waits. It belongs to one goroutine, which must Close it before it lets go of w.
type pipeline struct {
	w    io.Writer
	full chan []byte // nil while there is no goroutine
	free chan []byte
	done chan error // the first error of w, or nil once all is written
	wg   sync.WaitGroup
}

// Write implements io.Writer. An error of w is returned by a later call or by Close.
func (p *pipeline) Write(b []byte) (int, error) {
	if p.full == nil {
		if len(b) <= pieceBytes {
			return p.w.Write(b)
		}
		p.start()
	}
	for from := 0; from < len(b); from += pieceBytes {
		var piece []byte
		select {
		case piece = <-p.free:
		case err := <-p.done:
			p.done <- err
			return from, err
		}
		p.full <- append(piece[:0], b[from:min(from+pieceBytes, len(b))]...)
	}
	return len(b), nil
}

func (p *pipeline) start() {
	const pieces = 3
	p.full, p.free, p.done = make(chan []byte, pieces), make(chan []byte, pieces), make(chan error, 1)
	for range pieces {
		p.free <- nil
	}
	p.wg.Go(func() {
		var err error
		for piece := range p.full {
			if err == nil {
				if err = p.send(piece); err != nil {
					p.done <- err
				}
			}
			p.free <- piece
		}
		if err == nil {
			p.done <- nil
		}
	})
}

// send writes a piece. A panic of the writer is an error here: nobody above this goroutine would survive it.
func (p *pipeline) send(piece []byte) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("send the answer: %v", r)
		}
	}()
	_, err = p.w.Write(piece)
	return err
}

// Close waits until all is written and returns the first error.
func (p *pipeline) Close() error {
	if p.full == nil {
		return nil
	}
	close(p.full)
	p.wg.Wait()
	err := <-p.done
	p.full = nil
	return err
}

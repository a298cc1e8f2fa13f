// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package graphite receives Graphite's plain-text protocol over TCP and UDP.
//
// The path of a line is the name of the metric, as it is, and its tags are labels. The protocol has no answers: what is
// malformed or refused is counted, and described in the log once a minute. While the store takes no writes, connections
// are not read on, so that senders wait; datagrams are lost then.
//
// A Listener takes its address when it is made, runs until its context ends and waits for all its goroutines: one for
// each connection, one for datagrams.
package graphite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemarkdb/tidemark/ingest/push"
)

// Options of a Listener. Receiver and Address are required.
type Options struct {
	Receiver *push.Receiver
	Address  string       // of both TCP and UDP
	Logger   *slog.Logger // nil: nothing is logged

	MaxConnections int           // 0: 1,000; further ones are closed
	Idle           time.Duration // 0: 10 minutes; a connection that is silent for longer is closed
	Linger         time.Duration // 0: 1 second; lines wait so long for others to be stored with
}

// Listener receives on one address.
type Listener struct {
	o       Options
	tcp     net.Listener
	udp     net.PacketConn
	slots   chan struct{}
	nextLog atomic.Int64 // Unix seconds
	wg      sync.WaitGroup
}

// maxLine is how long a line may be; Graphite's own limit is 1 KiB less.
const maxLine = 64 << 10

// Listen takes the address.
func Listen(o Options) (*Listener, error) {
	if o.MaxConnections == 0 {
		o.MaxConnections = 1000
	}
	if o.Idle == 0 {
		o.Idle = 10 * time.Minute
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	tcp, err := net.Listen("tcp", o.Address)
	if err != nil {
		return nil, fmt.Errorf("listen for Graphite's protocol (receive.graphite_listen): %w", err)
	}
	udp, err := net.ListenPacket("udp", tcp.Addr().String())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen for Graphite's protocol (receive.graphite_listen): %w", err), tcp.Close())
	}
	if c, ok := udp.(*net.UDPConn); ok {
		_ = c.SetReadBuffer(4 << 20) // as much as the system allows: it holds what comes during a commit
	}
	return &Listener{o: o, tcp: tcp, udp: udp, slots: make(chan struct{}, o.MaxConnections)}, nil
}

// Address returns the address that was taken.
func (l *Listener) Address() net.Addr { return l.tcp.Addr() }

// Run receives until ctx ends, and returns once everything that was received before is stored.
func (l *Listener) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	l.wg.Go(func() { l.datagrams(ctx) })
	defer l.wg.Wait()
	for {
		c, err := l.tcp.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil: // of this connection, or too many files are open
			l.complain("a connection was not accepted", err)
			pause(ctx, 100*time.Millisecond)
			continue
		}
		select {
		case l.slots <- struct{}{}:
			l.wg.Go(func() {
				l.connection(ctx, c)
				<-l.slots
			})
		default:
			l.complain("a connection was refused", fmt.Errorf("%d are open", l.o.MaxConnections))
			_ = c.Close()
		}
	}
}

// Close gives the address back, where Run has not done it already because its context ended.
func (l *Listener) Close() error {
	var errs []error
	for _, c := range []io.Closer{l.tcp, l.udp} {
		if err := c.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// connection takes in what one sender sends. What was received is stored also when ctx ends.
func (l *Listener) connection(ctx context.Context, c net.Conn) {
	defer func() { _ = c.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	l.take(ctx, c.RemoteAddr().String(), push.Body{Reader: c, Sender: c.RemoteAddr().String(), Deadline: c.SetReadDeadline, Idle: l.o.Idle})
}

// datagrams takes in what comes without connections.
func (l *Listener) datagrams(ctx context.Context) {
	const always = 100 * 365 * 24 * time.Hour
	l.take(ctx, "a datagram", push.Body{Reader: &packets{c: l.udp}, Deadline: l.udp.SetReadDeadline, Idle: always})
}

// take stores lines until there are no more.
func (l *Listener) take(ctx context.Context, from string, b push.Body) {
	b.Format, b.MaxLine, b.Live, b.Linger = plaintext{}, maxLine, true, l.o.Linger
	b.Patient = func(err error) bool { return l.patient(ctx, err) }
	b.Note = func(report push.Report) {
		l.complain("lines were not stored", errors.New(from+": "+report.Message()))
	}
	for {
		_, err := l.o.Receiver.Take(context.WithoutCancel(ctx), b)
		_, broken := errors.AsType[*push.BodyError](err)
		switch {
		case err == nil || ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return
		case broken:
			l.o.Logger.Debug("a Graphite connection ended", "from", from, "err", err)
			return
		}
		l.complain("lines were not stored", fmt.Errorf("%s: %w", from, err))
	}
}

// patient waits until a store that takes no writes may take them, and reports whether to try again.
func (l *Listener) patient(ctx context.Context, err error) bool {
	header := http.Header{}
	if push.Status(header, err) != http.StatusServiceUnavailable {
		return false
	}
	l.complain("lines wait while the store takes no writes", err)
	seconds, _ := strconv.Atoi(header.Get("Retry-After"))
	return pause(ctx, time.Duration(min(max(seconds, 1), 5))*time.Second)
}

// pause waits and reports whether ctx still goes on.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// complain logs, once a minute at most.
func (l *Listener) complain(what string, err error) {
	now := time.Now().Unix()
	if next := l.nextLog.Load(); now >= next && l.nextLog.CompareAndSwap(next, now+60) {
		l.o.Logger.Warn("not everything is taken as it comes by Graphite's protocol", "what", what, "err", err)
	}
}

// packets reads datagrams as one stream of lines.
type packets struct {
	c    net.PacketConn
	rest []byte
	buf  [64 << 10]byte
}

// Read implements io.Reader. Every datagram ends with a line break.
func (p *packets) Read(b []byte) (int, error) {
	for len(p.rest) == 0 {
		n, _, err := p.c.ReadFrom(p.buf[:len(p.buf)-1])
		if err != nil {
			return 0, err
		}
		if n > 0 && p.buf[n-1] != '\n' {
			p.buf[n] = '\n'
			n++
		}
		p.rest = p.buf[:n]
	}
	n := copy(b, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

import (
	"crypto/rand"
	"fmt"
	"path"
	"runtime/debug"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Suffix ends the name of a block file.
const Suffix = ".blk"

// defaultSlot is two hours.
const defaultSlot = 7_200_000

// Path returns the path of the block with this ULID in dir.
func Path(dir, id string) string { return path.Join(dir, id+Suffix) }

// Meta is what a block says about itself. Times are Unix milliseconds.
type Meta struct {
	// ULID names the block and its file. Write makes one up where it is empty.
	ULID string `json:"ulid"`
	// MinT and MaxT are the times of the first and the last sample. Where there are exemplars alone, those
	// of the exemplars. Write fills them in.
	MinT int64 `json:"minTime"`
	MaxT int64 `json:"maxTime"`
	// SlotStart and SlotEnd bound the time that the block was cut for: [SlotStart, SlotEnd).
	SlotStart int64 `json:"slotStart"`
	SlotEnd   int64 `json:"slotEnd"`
	// Slot is the length in milliseconds of the slots that the pages are cut at, which begin at multiples of it.
	// Where it is 0, Write takes SlotEnd - SlotStart, or two hours where that is no length of a slot.
	Slot int64 `json:"slot,omitempty"`
	// LSN: the rows of that time with an LSN up to this one are in the block. 0: the block has no log.
	LSN sample.LSN `json:"lsn"`
	// Level is 0 for a block cut from the head, and one more with each merge.
	Level int `json:"level"`
	// Parents are the blocks that this one replaces; Sources the blocks of level 0 that it is made of.
	Parents []string `json:"parents,omitempty"`
	Sources []string `json:"sources,omitempty"`
	// Leader is the last published of the blocks that replace Parents together: without it the block does not count
	// while there are parents. Empty: the block itself.
	Leader string `json:"leader,omitempty"`
	// Class names the retention policy of all series of the block, by the policies whose fingerprint is Policy; where
	// that is empty, the series have not been told apart.
	Class  string `json:"class,omitempty"`
	Policy string `json:"policy,omitempty"`

	// Write counts.
	Series     uint64 `json:"series"`
	Floats     uint64 `json:"floats"`
	Histograms uint64 `json:"histograms"`
	Exemplars  uint64 `json:"exemplars"`

	// Writer is the version of Tidemark that wrote the block: at most 16 characters. Write fills it in
	// where it is empty.
	Writer string `json:"writer"`
}

// NewULID makes up the name of a block.
func NewULID() string { return ulid.MustNew(ulid.Timestamp(time.Now()), rand.Reader).String() }

// complete fills in what the caller of Write may leave out.
func (m *Meta) complete() error {
	if m.ULID == "" {
		m.ULID = NewULID()
	} else if _, err := ulid.ParseStrict(m.ULID); err != nil {
		return fmt.Errorf("block name %q: %w", m.ULID, err)
	}
	if m.Slot == 0 {
		m.Slot = m.SlotEnd - m.SlotStart
		if m.Slot <= 0 || m.Slot > maxSlot {
			m.Slot = defaultSlot
		}
	}
	if m.Slot < 0 || m.Slot > maxSlot {
		return fmt.Errorf("slot of %d ms", m.Slot)
	}
	if len(m.Sources) == 0 {
		m.Sources = []string{m.ULID}
	}
	if m.Writer == "" {
		m.Writer = buildVersion()
	}
	m.Writer = m.Writer[:min(len(m.Writer), writerBytes)]
	return nil
}

// buildVersion is the version of the running program as its module knows it.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "unknown"
	}
	return info.Main.Version
}

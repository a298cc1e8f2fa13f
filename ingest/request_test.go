// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package ingest_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/ingest/ingesttest"
	"github.com/tidemarkdb/tidemark/tsdb"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// source feeds an Intake with series named by single strings.
type source struct {
	t     *testing.T
	in    *ingest.Intake
	req   *ingest.Request
	names []string
}

func newSource(t *testing.T, store sample.Appender, requests *budget.Account) *source {
	t.Helper()
	in, err := ingest.New(ingest.Options{Appender: store, Requests: requests, Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	return &source{t: t, in: in, req: in.Begin()}
}

func (s *source) labels(i int) (labels.Labels, error) {
	return labels.FromStrings("__name__", s.names[i]), nil
}

// add adds rows of a series at the times.
func (s *source) add(name string, times ...int64) {
	s.names = append(s.names, name)
	if key := s.req.Hash(1, []byte(name)); !s.req.Begin(key) {
		s.req.Define(key, labels.FromStrings("__name__", name))
	}
	for _, t := range times {
		s.req.Float(0, t, float64(t))
	}
}

func (s *source) commit() (ingest.Outcome, error) {
	out, err := s.req.Commit(s.t.Context(), s.labels)
	s.req.Release()
	s.req, s.names = s.in.Begin(), nil
	return out, err
}

// stored returns rows as name@time.
func stored(r *ingesttest.Recorder) string {
	var words []string
	for _, row := range r.Rows() {
		name := strings.Trim(strings.TrimPrefix(row.Series, `{__name__=`), `"}`)
		words = append(words, name+"@"+strings.Repeat("i", int(row.T)))
	}
	return strings.Join(words, " ")
}

func TestKnownSeriesAreNotResolvedAgain(t *testing.T) {
	store := &ingesttest.Recorder{}
	s := newSource(t, store, nil)
	s.add("a", 1)
	s.add("b", 1, 2)
	if out, err := s.commit(); err != nil || out.Floats != 3 || out.Message() != "" {
		t.Fatalf("outcome %+v, %v", out, err)
	}
	s.add("b", 3)
	s.add("a", 2)
	if out, err := s.commit(); err != nil || out.Floats != 2 {
		t.Fatalf("outcome %+v, %v", out, err)
	}
	if got, want := stored(store), "a@i b@i b@ii b@iii a@ii"; got != want {
		t.Errorf("stored %s, want %s", got, want)
	}
	if n := store.Resolved(); n != 2 {
		t.Errorf("%d label sets were resolved, want 2", n)
	}
	if !store.AllDurable() {
		t.Error("a request was answered before it was durable")
	}
}

func TestRowsOfSeriesThatLeftTheStoreAreCommittedOnceMore(t *testing.T) {
	store := &ingesttest.Recorder{}
	s := newSource(t, store, nil)
	s.add("a", 1)
	s.add("b", 1)
	if _, err := s.commit(); err != nil {
		t.Fatal(err)
	}
	store.Forget()
	s.add("c", 1)
	s.add("a", 2, 3)
	s.req.Exemplar(sample.Exemplar{Labels: labels.FromStrings("trace", "x"), V: 1})
	s.add("b", 2)
	s.req.MetadataKnown(7)
	s.req.Metadata(sample.Metadata{Type: "counter"})
	out, err := s.commit()
	if err != nil || out.Floats != 4 || out.Exemplars != 1 || len(out.Problems) > 0 {
		t.Fatalf("outcome %+v, %v", out, err)
	}
	if got, want := stored(store), "a@i b@i c@i a@ii a@iii b@ii"; got != want {
		t.Errorf("stored %s, want %s", got, want)
	}
	if diff := cmp.Diff([]string{`{__name__="a"} # {trace="x"}`}, store.Exemplars()); diff != "" {
		t.Error(diff)
	}
	if m := store.Metadata(`{__name__="b"}`); m.Type != "counter" {
		t.Errorf("metadata is %+v", m)
	}
	resolved := store.Resolved()
	s.add("a", 4)
	if out, err := s.commit(); err != nil || out.Floats != 1 || store.Resolved() != resolved {
		t.Errorf("the new ref was not remembered: %+v, %v", out, err)
	}
	if !store.AllDurable() {
		t.Error("the second commit was not waited for")
	}
}

// live is a store that says which refs it knows.
type live struct {
	*ingesttest.Recorder

	gone bool
}

func (l *live) LabelsOf(sample.Ref) (labels.Labels, bool) { return labels.EmptyLabels(), !l.gone }

// Prometheus sends the exemplars of a series as one of its own, which may be in a request without its samples.
func TestExemplarsOfSeriesThatLeftTheStoreAreCommittedOnceMore(t *testing.T) {
	store := &live{Recorder: &ingesttest.Recorder{}}
	s := newSource(t, store, nil)
	add := func(trace, name string, times ...int64) {
		s.add(name, times...)
		s.req.Exemplar(sample.Exemplar{Labels: labels.FromStrings("trace", trace), V: 1})
	}
	add("1", "a", 1)
	s.add("b", 1)
	if _, err := s.commit(); err != nil {
		t.Fatal(err)
	}
	store.Forget()
	s.add("a", 2)
	add("2", "a")
	if out, err := s.commit(); err != nil || out.Exemplars != 1 {
		t.Errorf("behind the samples: %+v, %v", out, err)
	}
	store.gone = true
	add("3", "b")
	if out, err := s.commit(); err != nil || out.Exemplars != 1 || out.Message() != "" {
		t.Errorf("alone: %+v, %v", out, err)
	}
	store.gone = false
	resolved := store.Resolved()
	add("4", "b", 2)
	if out, err := s.commit(); err != nil || out.Exemplars != 1 || store.Resolved() != resolved {
		t.Errorf("the new ref was not remembered: %+v, %v", out, err)
	}
	want := []string{`{__name__="a"} # {trace="1"}`, `{__name__="a"} # {trace="2"}`, `{__name__="b"} # {trace="3"}`, `{__name__="b"} # {trace="4"}`}
	if diff := cmp.Diff(want, store.Exemplars()); diff != "" {
		t.Error(diff)
	}
	if !store.AllDurable() {
		t.Error("the second commit was not waited for")
	}
}

// finding is a store that finds series without making them.
type finding struct {
	*ingesttest.Recorder

	found map[string]sample.Ref
}

func (f *finding) Lookup(ls labels.Labels) (sample.Ref, bool) {
	ref, ok := f.found[ls.Get("__name__")]
	return ref, ok
}

func TestASeriesWithoutSamplesIsNotMade(t *testing.T) {
	store := &finding{Recorder: &ingesttest.Recorder{}}
	s := newSource(t, store, nil)
	add := func(name string, times ...int64) {
		s.add(name, times...)
		s.req.Exemplar(sample.Exemplar{Labels: labels.FromStrings("of", name)})
		s.req.Metadata(sample.Metadata{Help: name})
	}
	add("alone")
	add("a", 1)
	add("nothing")
	add("b", 1, 2)
	out, err := s.commit()
	if err != nil || out.Floats != 3 || out.Exemplars != 2 || out.Message() != "" || store.Resolved() != 2 {
		t.Errorf("%+v, %v; %d series", out, err, store.Resolved())
	}
	store.found = map[string]sample.Ref{"elsewhere": sample.MakeRef(1, 2)} // b
	add("nothing")
	add("elsewhere")
	if out, err = s.commit(); err != nil || out.Exemplars != 1 {
		t.Errorf("%+v, %v", out, err)
	}
	if got, want := stored(store.Recorder), "a@i b@i b@ii"; got != want {
		t.Errorf("stored %q, want %q", got, want)
	}
	want := []string{`{__name__="a"} # {of="a"}`, `{__name__="b"} # {of="b"}`, `{__name__="b"} # {of="elsewhere"}`}
	if diff := cmp.Diff(want, store.Exemplars()); diff != "" {
		t.Error(diff)
	}
	if m := store.Metadata(`{__name__="b"}`); m.Help != "elsewhere" {
		t.Errorf("metadata %+v", m)
	}
}

func TestTheDatabaseMakesNoSeriesForAnExemplarAlone(t *testing.T) {
	db, err := tsdb.Open(t.Context(), tsdb.Options{Dir: "data", FS: fsx.NewCrashable()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	s := newSource(t, db, nil)
	alone := func(want int) {
		t.Helper()
		s.add("a")
		s.req.Exemplar(sample.Exemplar{Labels: labels.FromStrings("trace", "x"), T: 1, HasT: true})
		if out, err := s.commit(); err != nil || out.Exemplars != want || out.Message() != "" {
			t.Errorf("%+v, %v", out, err)
		}
	}
	alone(0)
	if _, ok := db.Lookup(labels.FromStrings("__name__", "a")); ok {
		t.Error("there is a series without samples")
	}
	s.add("a", 1)
	if _, err := s.commit(); err != nil {
		t.Fatal(err)
	}
	alone(1)
}

// forgetful is a store that loses its series between the lookup and the commit.
type forgetful struct {
	*ingesttest.Recorder

	forgets bool
}

func (f *forgetful) Resolve(ls []labels.Labels, refs []sample.Ref) error {
	err := f.Recorder.Resolve(ls, refs)
	if f.forgets {
		f.Forget()
	}
	return err
}

func TestARequestWhoseSeriesLeaveTwiceIsToBeSentAgain(t *testing.T) {
	store := &forgetful{Recorder: &ingesttest.Recorder{}}
	s := newSource(t, store, nil)
	store.forgets = true
	s.add("a", 1)
	_, err := s.commit()
	if e, ok := errors.AsType[*sample.UnavailableError](err); !ok || e.RetryAfter == 0 {
		t.Errorf("answered %v", err)
	}
	store.forgets = false
	s.add("a", 1)
	if out, err := s.commit(); err != nil || out.Floats != 1 {
		t.Errorf("%+v, %v", out, err)
	}
}

func TestNewSeriesWithoutRoomLoseTheirRowsOnly(t *testing.T) {
	store := &ingesttest.Recorder{MaxSeries: 2}
	s := newSource(t, store, nil)
	s.add("old", 1)
	if _, err := s.commit(); err != nil {
		t.Fatal(err)
	}
	s.add("new", 1, 2)
	s.add("over", 1, 2, 3)
	s.req.Exemplar(sample.Exemplar{V: 1})
	s.add("old", 2)
	s.req.Exemplar(sample.Exemplar{Labels: labels.FromStrings("trace", "y"), V: 1})
	s.add("over2", 1)
	s.add("new", 3)
	out, err := s.commit()
	if err != nil || out.Floats != 4 || out.Rows != 8 || out.Rejected() != 4 || out.Exemplars != 1 {
		t.Fatalf("outcome %+v, %v", out, err)
	}
	if got, want := stored(store), "old@i new@i new@ii old@ii new@iii"; got != want {
		t.Errorf("stored %s, want %s", got, want)
	}
	if want := `4 of 8 samples were not stored: 4 sample of a new series while the memory budget has no room for it (first: {__name__="over"})`; out.Message() != want {
		t.Errorf("message is %s", out.Message())
	}
}

func TestReasonsAreCountedAndTheFirstOffenderIsNamed(t *testing.T) {
	store := &ingesttest.Recorder{Fate: func(r ingesttest.Row) sample.Reason {
		return map[int64]sample.Reason{2: sample.OutOfOrder, 3: sample.TooOld, 4: sample.Same, 5: sample.TooNew, 6: sample.Conflict}[r.T]
	}}
	s := newSource(t, store, nil)
	s.req.Drop(2, "invalid labels", func() string { return "x" })
	s.add("a", 1, 2)
	s.add("b", 2, 3, 4)
	s.add("c", 5, 6, 7)
	out, err := s.commit()
	if err != nil {
		t.Fatal(err)
	}
	want := `7 of 10 samples were not stored: 2 invalid labels (first: x); ` +
		`1 duplicate sample for timestamp with another value (first: {__name__="c"} at 1970-01-01T00:00:00.006Z); ` +
		`2 out of order sample (first: {__name__="a"} at 1970-01-01T00:00:00.002Z); ` +
		`1 too old sample (first: {__name__="b"} at 1970-01-01T00:00:00.003Z); ` +
		`1 sample too far in the future (first: {__name__="c"} at 1970-01-01T00:00:00.005Z)`
	if out.Message() != want {
		t.Errorf("message is\n%s\nwant\n%s", out.Message(), want)
	}
}

func TestErrorsOfTheStoreReachTheCallerAndNothingIsRemembered(t *testing.T) {
	broken := errors.New("broken")
	check := func(name string, set func(*ingesttest.Recorder)) {
		t.Helper()
		store := &ingesttest.Recorder{}
		s := newSource(t, store, nil)
		set(store)
		s.add("a", 1)
		if _, err := s.commit(); !errors.Is(err, broken) {
			t.Errorf("%s: error is %v", name, err)
		}
		*store = ingesttest.Recorder{}
		s.add("a", 2)
		if out, err := s.commit(); err != nil || out.Floats != 1 {
			t.Errorf("%s: later: %+v, %v", name, out, err)
		}
	}
	check("resolve", func(r *ingesttest.Recorder) { r.ResolveErr = broken })
	check("commit", func(r *ingesttest.Recorder) { r.CommitErr = broken })
	check("durable", func(r *ingesttest.Recorder) { r.DurableErr = broken })
}

func TestNoRoomForSamplesOfKnownSeriesMakesTheSenderTryAgain(t *testing.T) {
	store := &ingesttest.Recorder{Fate: func(ingesttest.Row) sample.Reason { return sample.OverLimit }}
	s := newSource(t, store, nil)
	s.add("a", 1)
	_, err := s.commit()
	if e, ok := errors.AsType[*sample.UnavailableError](err); !ok || e.Condition != "memory_pressure" || e.RetryAfter <= 0 {
		t.Errorf("error is %v", err)
	}
}

func TestRowsAreChargedBeforeTheyAreTaken(t *testing.T) {
	account := budget.NewRoot("requests", 1<<20)
	s := newSource(t, &ingesttest.Recorder{}, account)
	s.add("a", make([]int64, 100_000)...)
	_, err := s.commit()
	if _, ok := errors.AsType[*budget.ExceededError](err); !ok {
		t.Errorf("error is %v, want a refused charge", err)
	}
	if n := account.Used(); n != 0 {
		t.Errorf("%d bytes are still charged", n)
	}
	s.add("a", 1)
	if out, err := s.commit(); err != nil || out.Floats != 1 {
		t.Errorf("a small request afterwards: %+v, %v", out, err)
	}
}

func TestLabelBuilder(t *testing.T) {
	check := func(want string, pairs ...string) {
		t.Helper()
		var b ingest.LabelBuilder
		b.Reset()
		var all []byte
		for i := 0; i < len(pairs); i += 2 {
			name, value := []byte(pairs[i]), []byte(pairs[i+1])
			b.Add(name, value)
			all = append(append(all, name...), value...)
			defer clear(name)
		}
		ls, err := b.Labels()
		got := ls.String()
		if err != nil {
			if _, ok := errors.AsType[*ingest.LabelsError](err); !ok {
				t.Errorf("%q: error %v has no type", pairs, err)
			}
			got = err.Error()
		}
		if !strings.Contains(got, want) {
			t.Errorf("%q became %s, want %s", all, got, want)
		}
	}
	check(`{__name__="up", a="1", b="2"}`, "b", "2", "__name__", "up", "a", "1")
	check(`{__name__="up", a="1"}`, "__name__", "up", "a", "1", "b", "")
	check(`{__name__="üp", "a.b"="1"}`, "__name__", "üp", "a.b", "1")
	check(`label name "a" is there twice`, "__name__", "up", "a", "1", "a", "2")
	check(`metric name is missing`, "a", "1")
	check(`metric name is empty`, "__name__", "", "a", "1")
	check(`label name "" is empty`, "__name__", "up", "", "1")
	check(`label name "\xff" is empty or not UTF-8`, "__name__", "up", "\xff", "1")
	check(`value of label "a" is not UTF-8`, "__name__", "up", "a", "\xff")
	check(`metric name is missing`)
	check(`are more than`, "__name__", "up", "a", strings.Repeat("x", ingest.MaxLabelBytes))
	check(`are more than`, slicesOf("a", "b", ingest.MaxLabels+1)...)
}

func slicesOf(name, value string, n int) []string {
	var pairs []string
	for range n {
		pairs = append(pairs, name, value)
	}
	return pairs
}

func TestLabelsDoNotShareTheBytesTheyWereMadeOf(t *testing.T) {
	var b ingest.LabelBuilder
	b.Reset()
	name, value := []byte("__name__"), []byte("up")
	b.Add(name, value)
	ls, err := b.Labels()
	copy(value, "xx")
	if err != nil || ls.Get("__name__") != "up" {
		t.Errorf("labels are %s, %v after their source changed", ls, err)
	}
}

// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// The defaults of Options are those of Prometheus' flags where there is one.
const (
	defaultOutageTolerance = time.Hour
	defaultForGracePeriod  = 10 * time.Minute
	defaultResendDelay     = time.Minute
	// Twice the longest usual scrape interval: one scrape to see the target again and one spare.
	defaultResumeGrace = 2 * time.Minute
)

// QueryFunc answers an instant query. It is called by one group at a time, by many groups at once.
type QueryFunc func(ctx context.Context, expr string, ts time.Time) (promql.Vector, error)

// Notifier takes the alerts that are due: new, resolved, or not sent for the resend delay. It must not block
// for long and must not keep the slice.
type Notifier interface {
	Notify(ctx context.Context, alerts []Notification)
}

// Notification is one alert on its way to a receiver.
type Notification struct {
	Labels, Annotations labels.Labels
	StartsAt            time.Time
	EndsAt              time.Time // when it was resolved, else until when it holds unless sent again
	GeneratorURL        string
}

// Options are the parts a Manager works with. Query and Appender are required.
type Options struct {
	Query    QueryFunc
	Appender sample.Appender
	Source   column.Source // for restoring from ALERTS_FOR_STATE; nil: no such restore
	Notifier Notifier      // nil: alerts go nowhere

	// FS and StateDir say where alert state is kept; an empty StateDir keeps none.
	FS       fsx.FS
	StateDir string

	// OutageTolerance is how old alert state may be to be restored; default 1 h, negative: none is restored.
	OutageTolerance time.Duration
	// ForGracePeriod is how long an alert restored from ALERTS_FOR_STATE stays pending at least; rules with a
	// shorter `for` are not restored from it. Default 10 min, negative: zero.
	ForGracePeriod time.Duration
	// ResendDelay is how often a firing alert is sent again; default 1 min, negative: at every evaluation.
	ResendDelay time.Duration
	// ResumeGrace is how long after ingestion came back an alert whose samples are still missing is kept as
	// it is; default 2 min, negative: not at all.
	ResumeGrace time.Duration
	// IngestionStopped tells whether samples cannot come in at present; nil: never.
	IngestionStopped func() bool

	NameValidation model.ValidationScheme // default UTF-8
	Parser         parser.Parser          // default: PromQL without experimental features
	Logger         *slog.Logger           // default: none
	Registerer     prometheus.Registerer  // nil: metrics are kept but not exposed
}

// validate returns everything that is wrong with the options.
func (o *Options) validate() error {
	var errs []error
	if o.Query == nil {
		errs = append(errs, errors.New("rules: Options.Query is required"))
	}
	if o.Appender == nil {
		errs = append(errs, errors.New("rules: Options.Appender is required"))
	}
	if o.StateDir != "" && o.FS == nil {
		errs = append(errs, errors.New("rules: Options.StateDir needs Options.FS"))
	}
	return errors.Join(errs...)
}

func (o *Options) setDefaults() {
	for _, d := range []struct {
		value *time.Duration
		def   time.Duration
	}{
		{&o.OutageTolerance, defaultOutageTolerance},
		{&o.ForGracePeriod, defaultForGracePeriod},
		{&o.ResendDelay, defaultResendDelay},
		{&o.ResumeGrace, defaultResumeGrace},
	} {
		if *d.value == 0 {
			*d.value = d.def
		}
		*d.value = max(*d.value, 0)
	}
	if o.NameValidation == model.UnsetValidation {
		o.NameValidation = model.UTF8Validation
	}
	if o.Parser == nil {
		o.Parser = parser.NewParser(parser.Options{})
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// EngineQuery makes a QueryFunc of an engine and what it reads from. A scalar result becomes a vector of one
// sample without labels.
func EngineQuery(engine promql.QueryEngine, q storage.Queryable) QueryFunc {
	return func(ctx context.Context, expr string, ts time.Time) (promql.Vector, error) {
		query, err := engine.NewInstantQuery(ctx, q, nil, expr, ts)
		if err != nil {
			return nil, err
		}
		defer query.Close()
		res := query.Exec(ctx)
		if res.Err != nil {
			return nil, res.Err
		}
		switch v := res.Value.(type) {
		case promql.Vector:
			return v, nil // a vector outlives its query: Close takes back matrices only
		case promql.Scalar:
			return promql.Vector{{T: v.T, F: v.V}}, nil
		default:
			return nil, fmt.Errorf("a rule needs a vector or a scalar, its expression gives a %s", v.Type())
		}
	}
}

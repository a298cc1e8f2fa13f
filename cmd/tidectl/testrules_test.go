// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const testedRules = `groups:
  - name: up
    rules:
      - alert: Down
        expr: up == 0
        for: 5m
        labels: {severity: page}
        annotations: {summary: "{{ $labels.instance }} is down"}
`

const ruleTests = `rule_files: [rules.yml]
tests:
  - name: down
    input_series:
      - {series: 'up{instance="a"}', values: "1 0x10"}
    alert_rule_test:
      - eval_time: 5m
        alertname: Down
      - eval_time: 6m
        alertname: Down
        exp_alerts: [{exp_labels: {severity: page, instance: a}, exp_annotations: {summary: "a is down"}}]
  - name: wrong
    input_series:
      - {series: 'up{instance="b"}', values: "0x10"}
    alert_rule_test:
      - eval_time: 6m
        alertname: Down
        exp_alerts: [{exp_labels: {severity: ticket, instance: b}, exp_annotations: {summary: "b is down"}}]
  - name: not a number
    promql_expr_test:
      - {expr: 0 / 0, eval_time: 0m, exp_samples: [{labels: "{}", value: .nan}]}
`

func TestRulesAreTested(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"rules.yml": testedRules, "tests.yml": ruleTests} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	report := filepath.Join(dir, "report.xml")
	check := func(what string, code int, want []string, not string, args ...string) {
		t.Helper()
		var out bytes.Buffer
		if got := run(t.Context(), append([]string{"test", "rules"}, args...), &out, &out); got != code {
			t.Errorf("%s: exit code %d, want %d\n%s", what, got, code, &out)
		}
		for _, w := range want {
			if !strings.Contains(out.String(), w) {
				t.Errorf("%s: %q is missing in\n%s", what, w, &out)
			}
		}
		if not != "" && strings.Contains(out.String(), not) {
			t.Errorf("%s: %q should not be in\n%s", what, not, &out)
		}
	}
	file := filepath.Join(dir, "tests.yml")
	check("all", exitFailed, []string{"FAILED", "name: wrong", `severity="ticket"`, `severity="page"`, "1 of 1 files"}, "name: down", file)
	check("the good ones", exitDone, []string{"SUCCESS"}, "FAILED", "--run=^down$", "--run=number", file)
	check("line by line", exitFailed, []string{
		`-   Labels:{alertname="Down", instance="b", severity="ticket"}`, `+   Labels:{alertname="Down", instance="b", severity="page"}`, `    Annotations:{summary="b is down"}`,
	}, "exp:", "--diff", file)
	check("with what was written", exitDone, []string{`{__name__="ALERTS", alertname="Down", alertstate="pending", instance="a", severity="page"}`}, "", "--debug", "--run=^down$", file)
	check("a file that is not there", exitFailed, []string{"FAILED", "no such file"}, "", filepath.Join(dir, "none.yml"))
	check("an unknown feature", exitFailed, []string{`"nonsense" is no feature`}, "", "--enable-feature=nonsense", file)
	check("a bad pattern", exitFailed, []string{"--run"}, "", "--run=(", file)
	check("a report", exitFailed, nil, "", "--junit="+report, file)
	xml, err := os.ReadFile(report)
	if err != nil || !strings.Contains(string(xml), `failures="1"`) || !strings.Contains(string(xml), `name="not a number"`) {
		t.Errorf("the report: %v\n%s", err, xml)
	}
}

// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package function holds the functions of PromQL from vector to vector, operators between a vector and a scalar, unary
// minus, and what takes names away and merges series that have become the same by it.
//
// How to build them:
//
//	abs ceil floor sqrt sgn deg rad exp ln log2 log10 and trigonometry, clamp clamp_min clamp_max round, the date
//	functions with and without argument, histogram_count _sum _avg _stddev _stdvar, label_replace label_join, sort
//	sort_desc sort_by_label sort_by_label_desc, absent, vector, timestamp and start_timestamp of what is no selector:
//	Build.
//	-v: NewNegate. +v: v itself. v op s, s op v: NewBinary. The end of a query with delayed name removal: NewDropNames.
//
// These nodes are complete: they drop or mark the name where PromQL says so, and end in a Merge where that can make
// series the same. Only NewBinary and the functions that sort annotate, though more nodes are an operator.Annotated; slot
// 0 is the expression itself. Operators of other packages that drop names are given to NewMerge with the Rule that is
// theirs.
//
// Functions that work from row to row change the batches of their input in place, hold nothing, and cost a call per
// batch besides their loops; loops run over absent cells too where that is cheaper than to look. label_replace and
// label_join work on symbols when they are opened and cost nothing per row. sort and absent read their input when
// they are opened; sort holds one row per series, absent one. A Merge that has to merge holds nothing beside its table,
// but for instant vectors, and where the rows of one series do not agree about losing their name: which row comes first
// then decides about the order or the name, so they are all read before.
//
// Nodes belong to one query. Their cursors may run side by side.
package function

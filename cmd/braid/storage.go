package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span/local"
)

// shownProblems bounds what a check shows to people; one torn file may hold thousands.
const shownProblems = 20

// dumpBudget bounds the decompressed records of one batch, in bytes.
const dumpBudget = 256 << 20

func newStorage(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "storage",
		Short: "Look into the directory of a local cluster that is not running",
		Example: `  braid storage check ./braid-data/clusters/a
  braid storage dump ./braid-data/clusters/a --topic T --partition 0 -o json`,
	}
	group(cmd)
	cmd.AddCommand(newStorageCheck(e), newStorageDump(e))
	return cmd
}

// checkReport is the JSON shape of `braid storage check`.
type checkReport struct {
	Cluster    string         `json:"cluster"`
	ID         string         `json:"id"`
	Topics     int            `json:"topics"`
	Partitions int            `json:"partitions"`
	Segments   int            `json:"segments"`
	Batches    int64          `json:"batches"`
	Bytes      int64          `json:"bytes"`
	LogBytes   int64          `json:"logBytes"` // that a start replays
	Problems   []checkProblem `json:"problems"`
}

// checkProblem is one thing that is not as it was written; -1 and "" are unknown.
type checkProblem struct {
	File      string `json:"file"`
	Position  int64  `json:"position"`
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
	Detail    string `json:"detail"`
}

func newStorageCheck(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "check DIR",
		Short: "Read everything in a directory and name what is damaged",
		Long: `Read every batch, index and checkpoint of a local cluster's directory and compare their
checksums. Nothing is changed. The cluster must not be running. Exit code 1 when something
is damaged.`,
		Example: "  braid storage check ./braid-data/clusters/a",
		Args:    names(1, 1, "the directory of a local cluster"),
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := local.Check(args[0])
			if err != nil {
				return err
			}
			v := checkReport{Cluster: r.Name, ID: r.ID, Topics: r.Topics, Partitions: r.Partitions, Segments: r.Segments,
				Batches: r.Batches, Bytes: r.Bytes, LogBytes: r.LogBytes, Problems: []checkProblem{}}
			for _, p := range r.Problems {
				v.Problems = append(v.Problems, checkProblem(p))
			}
			if err := e.print(v, func(w io.Writer) error { return printCheck(w, v) }); err != nil {
				return err
			}
			if len(v.Problems) > 0 {
				return &silentError{"the directory is damaged"}
			}
			return nil
		},
	}
}

func printCheck(w io.Writer, r checkReport) error {
	if _, err := fmt.Fprintf(w, "cluster %s: %s, %s, %s in %s; a start replays %s bytes\n", r.Cluster,
		plural(r.Topics, "topic", "topics"), plural(r.Partitions, "partition", "partitions"),
		count(r.Batches)+" batches", plural(r.Segments, "segment", "segments"), count(r.LogBytes)); err != nil {
		return err
	}
	for i, p := range r.Problems {
		if i == shownProblems {
			_, err := fmt.Fprintf(w, "and %s more: -o json lists all\n", count(int64(len(r.Problems)-i)))
			return err
		}
		if _, err := fmt.Fprintf(w, "damaged: %s at %d, topic %s partition %d from offset %d: %s\n",
			dash(p.File), p.Position, dash(p.Topic), p.Partition, p.Offset, p.Detail); err != nil {
			return err
		}
	}
	if len(r.Problems) == 0 {
		_, err := fmt.Fprintln(w, "nothing is damaged")
		return err
	}
	return nil
}

// dumpedBatch is one line of `braid storage dump`.
type dumpedBatch struct {
	File       string         `json:"file"`
	Position   int64          `json:"position"` // -1 in the shared log
	Offset     int64          `json:"offset"`
	LastOffset int64          `json:"lastOffset"`
	Timestamp  int64          `json:"maxTimestamp"`
	ProducerID int64          `json:"producerId"`
	Epoch      int16          `json:"producerEpoch"`
	Sequence   int32          `json:"baseSequence"`
	Codec      string         `json:"codec"`
	Control    bool           `json:"control,omitempty"`
	Txn        bool           `json:"transactional,omitempty"`
	Problem    string         `json:"problem,omitempty"`
	Records    []dumpedRecord `json:"records,omitempty"`
}

// dumpedRecord is one record; key and value are null or text, raw bytes as they are.
type dumpedRecord struct {
	Offset    int64   `json:"offset"`
	Timestamp int64   `json:"timestamp"`
	Key       *string `json:"key"`
	Value     *string `json:"value"`
}

func newStorageDump(e *env) *cobra.Command {
	var topic string
	var partition int32
	var records bool
	cmd := &cobra.Command{
		Use:   "dump DIR --topic T --partition P",
		Short: "Show every batch of one physical partition",
		Long: `Show every batch of one physical partition (braid topic describe names it), one line each, in
order. The cluster must not be running. With -o json each line is one JSON object. Exit code 1
when something is damaged.`,
		Example: "  braid storage dump ./braid-data/clusters/a --topic braid.jqnn6f.default.packages.vq3jeo2rc7h5d23h --partition 0 --records -o json",
		Args:    names(1, 1, "the directory of a local cluster"),
		RunE: func(_ *cobra.Command, args []string) error {
			if topic == "" {
				return usagef("--topic wants the name of a physical topic")
			}
			enc := json.NewEncoder(e.out)
			damaged := false
			err := local.Dump(args[0], topic, partition, func(d local.Dumped) error {
				damaged = damaged || d.Problem != ""
				b, err := dumped(d, records)
				if err != nil {
					return err
				}
				if e.output == "json" {
					return enc.Encode(b)
				}
				return printDumped(e.out, b)
			})
			if err == nil && damaged {
				err = &silentError{"the partition is damaged"}
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&topic, "topic", "", "physical topic")
	f.Int32Var(&partition, "partition", 0, "physical partition")
	f.BoolVar(&records, "records", false, "show the records too")
	return cmd
}

func dumped(d local.Dumped, records bool) (dumpedBatch, error) {
	h := d.Header
	b := dumpedBatch{File: d.File, Position: d.Position, Offset: h.BaseOffset, LastOffset: h.LastOffset(), Timestamp: h.MaxTimestamp,
		ProducerID: h.ProducerID, Epoch: h.ProducerEpoch, Sequence: h.BaseSequence, Codec: fmt.Sprint(h.Codec()),
		Control: h.IsControl(), Txn: h.IsTransactional(), Problem: d.Problem}
	if !records || d.Raw == nil {
		return b, nil
	}
	for r, err := range batch.Records(d.Raw, dumpBudget) {
		if err != nil {
			return b, fmt.Errorf("records of the batch at offset %d: %w", h.BaseOffset, err)
		}
		b.Records = append(b.Records, dumpedRecord{Offset: r.Offset, Timestamp: r.Timestamp, Key: text(r.Key), Value: text(r.Value)})
	}
	return b, nil
}

func text(b []byte) *string {
	if b == nil {
		return nil
	}
	s := string(b)
	return &s
}

func printDumped(w io.Writer, b dumpedBatch) error {
	note := ""
	if b.Problem != "" {
		note = "  DAMAGED: " + b.Problem
	}
	if _, err := fmt.Fprintf(w, "[%d, %d]  %s  producer %d/%d seq %d  %s  %s:%d%s\n", b.Offset, b.LastOffset,
		time.UnixMilli(b.Timestamp).UTC().Format(time.RFC3339Nano), b.ProducerID, b.Epoch, b.Sequence, b.Codec, b.File, b.Position, note); err != nil {
		return err
	}
	for _, r := range b.Records {
		key, value := "null", "null"
		if r.Key != nil {
			key = fmt.Sprintf("%q", *r.Key)
		}
		if r.Value != nil {
			value = fmt.Sprintf("%q", *r.Value)
		}
		if _, err := fmt.Fprintf(w, "  %d  %s = %s\n", r.Offset, key, value); err != nil {
			return err
		}
	}
	return nil
}

package controller

import (
	"errors"
	"strconv"
	"testing"

	"github.com/braidstream/braid/catalog"
)

// The fresh copy of a topic that moves begins with small indexes, which are no work
// to touch first, and is told their full size when the move is over.
func TestAFreshCopyBeginsWithSmallIndexes(t *testing.T) {
	t.Parallel()
	small, full := strconv.Itoa(indexAtFirst), strconv.FormatInt(indexBytes(nil), 10)
	for _, tc := range []struct {
		name          string
		config        map[string]string
		noSeal        bool // and so no other config either
		gone          bool // the topic is deleted when it has moved
		before, after string
	}{
		{name: "default", before: small, after: full},
		{name: "the topic's own", config: map[string]string{indexSize: "1048576"}, before: "1048576", after: "1048576"},
		{name: "small segments", config: map[string]string{"segment.bytes": "1048576"}, before: "3840", after: "3840"},
		{name: "configs are not granted", noSeal: true, before: full, after: full},
		{name: "deleted meanwhile", gone: true, before: small},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, "a")
			east := newDouble("east")
			f.doubles["east"] = east
			_, err := f.admin.AddCluster(f.ctx, ClusterSpec{Name: "east", Bootstrap: []string{"127.0.0.1:1"}})
			f.check(err)
			if tc.noSeal {
				f.grantsNoSeal("east")
			}
			topic := f.topic("orders", 2, "a", tc.config)
			size := func() (value string) {
				east.set(func() {
					for _, x := range east.topics {
						value = x.config[indexSize]
					}
				})
				return value
			}
			before := make(chan string, 1)
			f.controller(func(o *Options) {
				o.Fault = func(p string) error {
					if p == FaultCertified { // the producers have gone on
						select {
						case before <- size():
						default:
						}
						if tc.gone {
							return f.admin.DeleteTopic(f.ctx, catalog.DefaultTenant, topic.ID)
						}
					}
					return nil
				}
			})
			if op := f.done(f.move("east", "orders")); op.State != catalog.OpDone {
				t.Fatalf("move: %+v", op)
			}
			if got := <-before; got != tc.before {
				t.Errorf("index size during the move: %s, not %s", got, tc.before)
			}
			f.until("the end of the certification", func() bool {
				list, err := f.cat.Certifications(f.ctx)
				f.check(err)
				return len(list) == 0
			})
			if got := size(); got != tc.after && !tc.gone {
				t.Errorf("index size after the move: %s, not %s", got, tc.after)
			}
		})
	}
}

// A cluster that takes no configs when the move is over keeps no certificate from its last word.
func TestACopyKeepsSmallIndexesWhereConfiguringFails(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a")
	east := newDouble("east")
	f.doubles["east"] = east
	_, err := f.admin.AddCluster(f.ctx, ClusterSpec{Name: "east", Bootstrap: []string{"127.0.0.1:1"}})
	f.check(err)
	topic := f.topic("orders", 1, "a", nil)
	f.writer(topic, 0, 100).append(2)
	east.set(func() { east.fixed = errors.New("no configs here") })
	f.controller()
	op := f.done(f.move("east", "orders"))
	if op.State != catalog.OpDone {
		t.Fatalf("move: %+v", op)
	}
	f.lastWord(topic, op)
	east.set(func() {
		for _, x := range east.topics {
			if got := x.config[indexSize]; got != strconv.Itoa(indexAtFirst) {
				t.Errorf("index size: %s", got)
			}
		}
	})
}

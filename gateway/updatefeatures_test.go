package gateway

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/wire"
)

// One update that fails makes the whole request fail, without results, in every version, as
// with Apache Kafka 4.3.1.
func TestUpdateFeaturesFailsAsAWhole(t *testing.T) {
	t.Parallel()
	type update struct {
		feature string
		level   int16
		kind    int8
	}
	good, unknown := update{"group.version", 1, 1}, update{"made.up", 1, 1}
	f := newFleet(t)
	r := f.raw()
	for _, c := range []struct {
		name    string
		updates []update
		refused [3]bool // by version
	}{
		{"in force", []update{good, {"transaction.version", 2, 3}}, [3]bool{}},
		{"nothing", nil, [3]bool{}},
		{"unknown", []update{unknown}, [3]bool{true, true, true}},
		{"unknown, level 0", []update{{"made.up", 0, 3}}, [3]bool{true, true, true}},
		{"a good one and an unknown one", []update{good, unknown}, [3]bool{true, true, true}},
		{"an unknown one and a good one", []update{unknown, good}, [3]bool{true, true, true}},
		{"too high", []update{{"transaction.version", 3, 1}}, [3]bool{true, true, true}},
		{"no such kind of update", []update{{"group.version", 1, 9}}, [3]bool{false, true, true}},
		{"unknown kind of update", []update{{"group.version", 1, 0}}, [3]bool{false, true, true}},
	} {
		for v := int16(0); v <= 2; v++ {
			req := kmsg.NewPtrUpdateFeaturesRequest()
			for _, u := range c.updates {
				x := kmsg.NewUpdateFeaturesRequestFeatureUpdate()
				x.Feature, x.MaxVersionLevel, x.UpgradeType = u.feature, u.level, u.kind
				req.FeatureUpdates = append(req.FeatureUpdates, x)
			}
			resp := do[*kmsg.UpdateFeaturesResponse](r, v, req)
			want, results := wire.None, len(c.updates)
			if c.refused[v] {
				want = wire.InvalidUpdateVersion
			}
			if c.refused[v] || v >= 2 {
				results = 0
			}
			if wire.Code(resp.ErrorCode) != want || (resp.ErrorMessage != nil) != c.refused[v] || len(resp.Results) != results {
				t.Errorf("%s, version %d: %+v", c.name, v, resp)
				continue
			}
			for i, got := range resp.Results {
				if got.Feature != c.updates[i].feature || got.ErrorCode != 0 || got.ErrorMessage == nil || *got.ErrorMessage != "NONE" {
					t.Errorf("%s, version %d: %+v", c.name, v, got)
				}
			}
		}
	}
}

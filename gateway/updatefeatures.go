package gateway

// UpdateFeatures, key 57, versions 0 to 2 (KIP-584).
//
// Like Apache Kafka: a level that is in force already is no change. One that the
// brokers do not support, or a kind of change that there is none of, fails the whole
// request with INVALID_UPDATE_VERSION, without results. Before version 2 each feature
// has a result, whose message is "NONE".
//
// Difference: the level of a feature is that of the release, so no other can be
// set.

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

func updateFeatures(call *call, req *kmsg.UpdateFeaturesRequest) kmsg.Response {
	resp := kmsg.NewPtrUpdateFeaturesResponse()
	if code := call.onCluster(acl.Alter); code != wire.None {
		resp.ErrorCode, resp.ErrorMessage = call.refusal(code)
		return resp
	}
	levels := map[string]int16{}
	for _, f := range call.g.apis.features() {
		levels[f.name] = f.max
	}
	for i := range req.FeatureUpdates {
		u := &req.FeatureUpdates[i]
		if why := refusedLevel(levels, u, req.Version); why != "" {
			resp.ErrorCode, resp.ErrorMessage = call.refusal(&span.RejectedError{Code: wire.InvalidUpdateVersion,
				Detail: fmt.Sprintf("Nothing is updated, because of one feature: Invalid update version %d for feature %.100s. %s", u.MaxVersionLevel, u.Feature, why)})
			resp.Results = nil
			return resp
		}
		if req.Version < 2 {
			out := kmsg.NewUpdateFeaturesResponseResult()
			none := "NONE"
			out.Feature, out.ErrorMessage = u.Feature, &none
			resp.Results = append(resp.Results, out)
		}
	}
	return resp
}

// refusedLevel tells why a level cannot be set, "" if it is in force.
func refusedLevel(levels map[string]int16, u *kmsg.UpdateFeaturesRequestFeatureUpdate, version int16) string {
	const upgrade, unsafeDowngrade = 1, 3
	have := levels[u.Feature]
	switch {
	case version >= 1 && (u.UpgradeType < upgrade || u.UpgradeType > unsafeDowngrade):
		return fmt.Sprintf("There is no upgrade type %d.", u.UpgradeType)
	case have == 0:
		return "There is no such feature."
	case have != u.MaxVersionLevel:
		return fmt.Sprintf("Levels are those of the release, which is %d.", have)
	}
	return ""
}

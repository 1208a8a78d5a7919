package gateway

// UpdateFeatures, key 57, versions 0 to 2 (KIP-584).
//
// Like Apache Kafka: a level that is in force already is no change, one that the
// brokers do not support is INVALID_UPDATE_VERSION.
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
		out := kmsg.NewUpdateFeaturesResponseResult()
		out.Feature = u.Feature
		if have := levels[u.Feature]; have == 0 || have != u.MaxVersionLevel {
			code, message := call.refusal(&span.RejectedError{Code: wire.InvalidUpdateVersion,
				Detail: fmt.Sprintf("Invalid update version %d for feature %.100s: levels are those of the release.", u.MaxVersionLevel, u.Feature)})
			out.ErrorCode, out.ErrorMessage = code, message
			if req.Version >= 2 && resp.ErrorCode == 0 {
				resp.ErrorCode, resp.ErrorMessage = code, message
			}
		}
		resp.Results = append(resp.Results, out)
	}
	return resp
}

package gateway

// ApiVersions, key 18, versions 0 to 4.
//
// Like Apache Kafka: a version that is not known is answered in version 0 with
// UNSUPPORTED_VERSION and the list of all keys (KIP-511); Produce is offered
// from version 0 although 3 is the first that is served, since librdkafka turns
// compression off otherwise (KAFKA-18659).
//
// Differences: features and their levels follow from the keys that are served
// (features.go). Their epoch is 0, since they never change while a gateway runs,
// or -1 if there are none.

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/wire"
)

func apiVersions(call *call, req *kmsg.ApiVersionsRequest) kmsg.Response {
	resp := kmsg.NewPtrApiVersionsResponse()
	resp.ApiKeys = call.g.apis.offered()
	for _, f := range call.g.apis.features() {
		resp.FinalizedFeaturesEpoch = 0
		s := kmsg.NewApiVersionsResponseSupportedFeature()
		s.Name, s.MaxVersion = f.name, f.max
		if req.Version < 4 {
			s.MinVersion = 1 // older clients take a range that begins at 0 for malformed (KIP-1022)
		}
		resp.SupportedFeatures = append(resp.SupportedFeatures, s)
		l := kmsg.NewApiVersionsResponseFinalizedFeature()
		l.Name, l.MaxVersionLevel, l.MinVersionLevel = f.name, f.max, f.max
		resp.FinalizedFeatures = append(resp.FinalizedFeatures, l)
	}
	if call.c.auth != nil && call.c.auth.phase == phaseGreeting {
		call.c.auth.phase = phaseHandshake
	}
	if req.Version >= 3 {
		if !validSoftware(req.ClientSoftwareName) || !validSoftware(req.ClientSoftwareVersion) {
			resp.ErrorCode = call.failed(wire.InvalidRequest)
			resp.ApiKeys = nil
			return resp
		}
		call.c.software = req.ClientSoftwareName + "/" + req.ClientSoftwareVersion
		call.c.named()
	}
	return resp
}

// versionMismatch answers an ApiVersions request of a version that is not known.
func (c *conn) versionMismatch(h wire.Header, start time.Time) error {
	if err := c.settled(); err != nil {
		return err
	}
	resp := kmsg.NewPtrApiVersionsResponse()
	resp.ErrorCode = int16(wire.UnsupportedVersion)
	resp.ApiKeys = c.g.apis.offered()
	c.g.metrics.failed(keyApiVersions, wire.UnsupportedVersion)
	c.g.metrics.served(keyApiVersions, start)
	return c.write(wire.AppendResponse(nil, h.CorrelationID, resp))
}

// offered is the list that clients are told.
func (a *apis) offered() []kmsg.ApiVersionsResponseApiKey {
	keys := make([]kmsg.ApiVersionsResponseApiKey, 0, len(a.list))
	for i := range a.list {
		k := kmsg.NewApiVersionsResponseApiKey()
		k.ApiKey, k.MinVersion, k.MaxVersion = a.list[i].key, a.list[i].offered, a.list[i].max
		keys = append(keys, k)
	}
	return keys
}

// validSoftware checks a client's software name or version as KIP-511 has it:
// letters, digits, '-' and '.', those two not at the ends.
func validSoftware(s string) bool {
	if s == "" || len(s) > 256 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case (c == '-' || c == '.') && i > 0 && i < len(s)-1:
		default:
			return false
		}
	}
	return true
}

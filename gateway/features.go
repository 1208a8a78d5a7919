package gateway

import "github.com/twmb/franz-go/pkg/kmsg"

// feature is a cluster feature with the level that is in force (KIP-584). What
// a gateway supports is what its release serves: levels are not set by anyone.
type feature struct {
	name string
	max  int16
}

// features lists what clients tell from the level of a feature rather than from
// the versions of a key, by name.
func (a *apis) features() []feature {
	var out []feature
	if a.find(int16(kmsg.ConsumerGroupHeartbeat)) != nil {
		out = append(out, feature{"group.version", 1}) // KIP-848
	}
	if t := a.find(int16(kmsg.EndTxn)); t != nil && t.max >= 5 {
		out = append(out, feature{"transaction.version", 2}) // KIP-890
	}
	return out
}

package controller

import "time"

func (r *run) trc(what string, args ...any) {
	r.log.Info("trc "+what, append([]any{"us", time.Now().UnixMicro(), "topic", r.e.Topic.ID}, args...)...)
}

//! Maps the tensor names of the original implementations to ours. Shared with the learner's tests.

/// Names that depend on the network.
#[derive(Clone, Copy)]
pub(crate) struct Names<'a> {
    /// Name of its hidden layers.
    pub(crate) trunk: &'a str,
    /// Name of its output layer.
    pub(crate) last: &'a str,
}

pub(crate) const POLICY: Names<'_> = Names { trunk: "trunk", last: "action" };

/// Returns our name of a golden file's tensor, given without its role. `None` if our networks have no such tensor.
pub(crate) fn ours(name: &str, names: Names<'_>) -> Option<String> {
    let name = name.strip_prefix("rnn_cell.").unwrap_or(name);
    let (stem, field) = name.rsplit_once('.').unwrap_or(("", name));
    if let Some(rest) = field.strip_suffix("_param") {
        return (rest == "sigma").then(|| "log_std".to_owned());
    }
    if stem == "nn" {
        let (field, layer) = field.rsplit_once("_l")?;
        return Some(format!("lstm.{layer}.{field}"));
    }
    let field = if field == "sparsity_mask" { "mask" } else { field };
    let stem = match stem.strip_prefix("ncp.command.").unwrap_or(stem) {
        "" => {
            return match field {
                "A" => Some("a".to_owned()),
                "w_tau" => Some("w_tau".to_owned()),
                "effective_mask" => Some("command.mask".to_owned()),
                _ => None,
            };
        }
        "ncp.inter" | "ncp.ncp.0" => "inter".to_owned(),
        "ncp.command" | "ncp.ncp.2" => "command".to_owned(),
        "ncp.motor" | "ncp.ncp.4" => "motor".to_owned(),
        "g_head" => "g".to_owned(),
        "h_head" => "h".to_owned(),
        "f_head_to_g" => "f_to_g".to_owned(),
        "f_head_to_h" => "f_to_h".to_owned(),
        "mu.model.0" | "mean_out_layer" => "mu".to_owned(),
        "sigma.model.0" | "sigma" | "log_std_out_layer" => "log_std".to_owned(),
        "fc2" | "critic_out" => names.last.to_owned(),
        "lstm.input_map" => "lstm.input".to_owned(),
        "lstm.recurrent_map" => "lstm.recurrent".to_owned(),
        stem => counted(stem, names).unwrap_or_else(|| stem.replace("layer_", "layer.")),
    };
    Some(format!("{stem}.{field}"))
}

/// Returns our name of a numbered layer.
fn counted(stem: &str, names: Names<'_>) -> Option<String> {
    let number = |prefix: &str| stem.strip_prefix(prefix)?.parse::<usize>().ok();
    let trunk = |i: usize| format!("{}.{i}", names.trunk);
    if let Some(k) = number("preprocess.model.model.") {
        return Some(trunk(k / 2));
    }
    if let Some(k) = number("backbone.") {
        return Some(format!("backbone.{}", k / 2));
    }
    if let Some(k) = number("last.model.") {
        return (k == 0).then(|| names.last.to_owned());
    }
    number("dense").or_else(|| number("critic")).or_else(|| number("layers.")).map(trunk)
}

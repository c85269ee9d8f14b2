//! Custom attributes: `/data_attributes` and `/conversations/attributes`.

use serde_json::{Value, json};

use super::{Outcome, invalid, missing};
use crate::exchange::{Answer, Request};
use crate::render;
use crate::world::World;

pub(super) fn list(world: &World, model: Option<&str>) -> Outcome {
    let wanted = |of: &str| model.map_or(of != "conversation", |model| model == of);
    let data: Vec<Value> = world.attributes.iter().filter(|a| wanted(&a.model)).map(render::attribute).collect();
    Ok(json!({ "type": "list", "data": data }))
}

pub(super) fn create(world: &mut World, request: &Request) -> Outcome {
    let name = request.text("name").ok_or_else(|| missing("name"))?;
    let model = request.text("model").ok_or_else(|| missing("model"))?;
    let data_type = request.text("data_type").ok_or_else(|| missing("data_type"))?;
    if !["contact", "company"].contains(&model) {
        return Err(invalid(format!("Model '{model}' is not supported")));
    }
    if world.attribute(model, name).is_some() {
        return Err(invalid(format!(
            "You already have '{name}' in your {model} data. To save this as new {model} data, use a different name."
        )));
    }
    let description = request.text("description").unwrap_or_default();
    Ok(render::attribute(&world.define_attribute(model, name, data_type, description)))
}

pub(super) fn create_for_conversations(world: &mut World, request: &Request) -> Outcome {
    let unprocessable = |message: String| Answer::refusal(422, "unprocessable_entity", message);
    let name = request.text("name").ok_or_else(|| unprocessable("name is required".to_owned()))?;
    let data_type = request.text("data_type").ok_or_else(|| unprocessable("data_type is required".to_owned()))?;
    if world.attribute("conversation", name).is_some() {
        return Err(unprocessable(format!("A conversation attribute named '{name}' already exists")));
    }
    let description = request.text("description").unwrap_or_default();
    Ok(render::attribute(&world.define_attribute("conversation", name, data_type, description)))
}

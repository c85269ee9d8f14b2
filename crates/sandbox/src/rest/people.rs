//! Teammates and teams: `/me`, `/admins`, `/teams`.

use serde_json::{Value, json};

use super::{Outcome, not_found};
use crate::exchange::Request;
use crate::world::{Admin, World};

const TEAM_ID: &str = "7000001";

/// The owner of the access token: the service teammate.
pub(super) fn me(world: &World) -> Outcome {
    let admin = world.admins.first().ok_or_else(|| not_found("Admin not found"))?;
    let mut json = one(admin, false);
    json["email_verified"] = json!(true);
    json["avatar"] = json!({ "type": "avatar", "image_url": null });
    json["app"] = json!({
        "type": "app", "id_code": world.app_id, "name": "Sandbox", "region": "US", "timezone": "UTC",
        "created_at": 1_700_000_000, "identity_verification": false,
    });
    Ok(json)
}

pub(super) fn list(world: &World, request: &Request) -> Outcome {
    let with_avatar = request.query_value("display_avatar").as_deref() == Some("true");
    let admins: Vec<Value> = world.admins.iter().map(|admin| one(admin, with_avatar)).collect();
    Ok(json!({ "type": "admin.list", "admins": admins }))
}

pub(super) fn admin(world: &World, id: &str) -> Outcome {
    world.admin(id).map(|admin| one(admin, true)).ok_or_else(|| not_found("Admin not found"))
}

pub(super) fn teams(world: &World) -> Outcome {
    let admin_ids: Vec<u64> = world.admins.iter().filter_map(|admin| admin.id.parse().ok()).collect();
    Ok(
        json!({ "type": "team.list", "teams": [{ "type": "team", "id": TEAM_ID, "name": "Support", "admin_ids": admin_ids }] }),
    )
}

fn one(admin: &Admin, with_avatar: bool) -> Value {
    let mut json = json!({
        "type": "admin", "id": admin.id, "name": admin.name, "email": admin.email, "job_title": "Support",
        "away_mode_enabled": false, "away_mode_reassign": false, "has_inbox_seat": true, "team_ids": [7_000_001],
    });
    if with_avatar {
        json["avatar"] = json!(format!("https://static.intercomassets.com/avatars/{}/square_128/avatar.png", admin.id));
    }
    json
}
